-- The tables that the processors write. Columns and order are those of schemas/tables.py; a test compares them.
-- Every statement may run again: a migration that died half-way is applied once more from its beginning.
-- Parts below 128 MiB are compact (one file): an insert writes few files, merged parts get a file a column.

-- One priced attempt a row. A row with a greater version replaces; the truth about an attempt is its greatest version.
CREATE TABLE IF NOT EXISTS usage_facts
(
    posted_hour DateTime64(6, 'UTC'),
    gateway_id LowCardinality(String),
    request_id String,
    attempt UInt16,
    response_hash String,
    version UInt64,
    usage_hour DateTime64(6, 'UTC'),
    request_started_at DateTime64(6, 'UTC'),
    occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC'),
    status LowCardinality(String),
    has_response Bool,
    paired Bool,
    delivered Nullable(Bool),
    http_status Nullable(Int64),
    finish_reason LowCardinality(String),
    provider_request_id String,
    gateway_kind LowCardinality(String),
    tenant_id LowCardinality(String),
    app_id LowCardinality(String),
    workload_id LowCardinality(String),
    credential_fingerprint String,
    end_user String,
    identity_source LowCardinality(String),
    evidence_grade LowCardinality(String),
    attribution LowCardinality(String),
    cost_centre LowCardinality(String),
    business_unit LowCardinality(String),
    organisation LowCardinality(String),
    provider LowCardinality(String),
    model LowCardinality(String),
    served_model LowCardinality(String),
    operation LowCardinality(String),
    stream Nullable(Bool),
    region LowCardinality(String),
    service_tier LowCardinality(String),
    workload_class LowCardinality(String),
    purpose LowCardinality(String),
    route LowCardinality(String),
    parent_request_id String,
    trace_id String,
    idempotency_key String,
    client_request_id String,
    content_digest String,
    gateway_cache LowCardinality(String),
    latency_us Nullable(Int64),
    ttft_us Nullable(Int64),
    latency_class LowCardinality(String),
    latency_thresholds_version UInt16,
    usage_revision UInt8,
    usage_source LowCardinality(String),
    input_text_uncached Nullable(Int64),
    input_text_cache_read Nullable(Int64),
    input_text_cache_write_5m Nullable(Int64),
    input_text_cache_write_1h Nullable(Int64),
    input_audio_uncached Nullable(Int64),
    input_audio_cache_read Nullable(Int64),
    input_image_uncached Nullable(Int64),
    input_image_cache_read Nullable(Int64),
    output_text_visible Nullable(Int64),
    output_text_reasoning Nullable(Int64),
    output_audio_visible Nullable(Int64),
    output_image_visible Nullable(Int64),
    images Nullable(Int64),
    media_ms Nullable(Int64),
    searches Nullable(Int64),
    tool_calls Nullable(Int64),
    avoided_input_tokens Nullable(Int64),
    avoided_output_tokens Nullable(Int64),
    usage_raw String CODEC(ZSTD(3)),
    price_status LowCardinality(String),
    currency LowCardinality(String),
    rate_card_id LowCardinality(String),
    rate_card_hash LowCardinality(String),
    plan_id LowCardinality(String),
    retry_rule LowCardinality(String),
    list_cost Nullable(Decimal(38, 12)),
    provider_cost Nullable(Decimal(38, 12)),
    token_cost Nullable(Decimal(38, 12)),
    model_cost Nullable(Decimal(38, 12)),
    policy_cost Nullable(Decimal(38, 12)),
    markup Nullable(Decimal(38, 12)),
    absorbed Nullable(Decimal(38, 12)),
    absorbed_to LowCardinality(String),
    charge Nullable(Decimal(38, 12)),
    fresh Bool,
    window_tokens Int64,
    window_cost Decimal(38, 12),
    topic LowCardinality(String),
    partition Int64,
    offset Int64,
    event_index Int64,
    kid LowCardinality(String),
    epoch LowCardinality(String),
    sequence Int64,
    metadata_offset Int64,
    fold_release UInt16
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(posted_hour)
ORDER BY (posted_hour, gateway_id, request_id, attempt, response_hash)
SETTINGS min_bytes_for_wide_part = 134217728;

-- One policy decision and its cost a row.
CREATE TABLE IF NOT EXISTS policy_facts
(
    posted_hour DateTime64(6, 'UTC'),
    gateway_id LowCardinality(String),
    decision_id String,
    content_hash String,
    version UInt64,
    usage_hour DateTime64(6, 'UTC'),
    request_id String,
    attempt UInt16,
    request_started_at DateTime64(6, 'UTC'),
    occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC'),
    sender_gateway_id LowCardinality(String),
    gateway_kind LowCardinality(String),
    tenant_id LowCardinality(String),
    app_id LowCardinality(String),
    workload_id LowCardinality(String),
    credential_fingerprint String,
    end_user String,
    identity_source LowCardinality(String),
    evidence_grade LowCardinality(String),
    attribution LowCardinality(String),
    cost_centre LowCardinality(String),
    business_unit LowCardinality(String),
    organisation LowCardinality(String),
    policy_id LowCardinality(String),
    policy_version LowCardinality(String),
    outcome LowCardinality(String),
    latency_us Nullable(Int64),
    units Nullable(Int64),
    evaluator_request_id String,
    price_status LowCardinality(String),
    currency LowCardinality(String),
    prices_id LowCardinality(String),
    plan_id LowCardinality(String),
    policy_cost Nullable(Decimal(38, 12)),
    markup Nullable(Decimal(38, 12)),
    absorbed Nullable(Decimal(38, 12)),
    absorbed_to LowCardinality(String),
    charge Nullable(Decimal(38, 12)),
    fresh Bool,
    window_cost Decimal(38, 12),
    topic LowCardinality(String),
    partition Int64,
    offset Int64,
    event_index Int64,
    kid LowCardinality(String),
    epoch LowCardinality(String),
    sequence Int64,
    metadata_offset Int64,
    fold_release UInt16
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(posted_hour)
ORDER BY (posted_hour, gateway_id, decision_id, content_hash)
SETTINGS min_bytes_for_wide_part = 134217728;

-- Live totals a minute and dimension; a total is the sum over partitions and slices.
CREATE TABLE IF NOT EXISTS usage_windows
(
    window_start DateTime64(6, 'UTC'),
    gateway_id LowCardinality(String),
    tenant_id LowCardinality(String),
    app_id LowCardinality(String),
    workload_id LowCardinality(String),
    provider LowCardinality(String),
    model LowCardinality(String),
    purpose LowCardinality(String),
    evidence_grade LowCardinality(String),
    usage_source LowCardinality(String),
    policy_id LowCardinality(String),
    outcome LowCardinality(String),
    currency LowCardinality(String),
    topic LowCardinality(String),
    partition Int64,
    slice DateTime64(6, 'UTC'),
    revision Int64,
    attempts Int64,
    decisions Int64,
    input_tokens Int64,
    cache_read_tokens Int64,
    output_tokens Int64,
    reasoning_tokens Int64,
    unpriced_tokens Int64,
    latency_us Int64,
    list_cost Decimal(38, 12),
    provider_cost Decimal(38, 12),
    token_cost Decimal(38, 12),
    model_cost Decimal(38, 12),
    policy_cost Decimal(38, 12),
    markup Decimal(38, 12),
    charge Decimal(38, 12)
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMMDD(window_start)
ORDER BY (window_start, gateway_id, tenant_id, app_id, workload_id, provider, model, purpose, evidence_grade,
    usage_source, policy_id, outcome, currency, topic, partition, slice)
SETTINGS min_bytes_for_wide_part = 134217728;

-- What needs a look: conflicts, starts that differ. Both copies stay as bytes.
CREATE TABLE IF NOT EXISTS exceptions
(
    topic LowCardinality(String),
    partition Int64,
    offset Int64,
    event_index Int64,
    kind LowCardinality(String),
    gateway_id LowCardinality(String),
    request_id String,
    attempt UInt16,
    recorded_at DateTime64(6, 'UTC'),
    detail String CODEC(ZSTD(3)),
    raw String CODEC(ZSTD(3)),
    first_offset Nullable(Int64),
    first_raw String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, partition, offset, event_index, kind);

-- What was refused, with its raw bytes and the reason, ready for replay.
CREATE TABLE IF NOT EXISTS quarantine
(
    topic LowCardinality(String),
    partition Int64,
    offset Int64,
    event_index Int64,
    reason LowCardinality(String),
    detail String CODEC(ZSTD(3)),
    gateway_id LowCardinality(String),
    recorded_at DateTime64(6, 'UTC'),
    key String CODEC(ZSTD(3)),
    headers String CODEC(ZSTD(3)),
    record_digest String,
    claimed_gateway_id String,
    epoch String,
    first_sequence Int64,
    next_sequence Int64,
    raw String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, partition, offset, event_index);

-- Intervals of sequences received, and what heartbeats announced; united at read.
CREATE TABLE IF NOT EXISTS gateway_epochs
(
    gateway_id LowCardinality(String),
    epoch LowCardinality(String),
    topic LowCardinality(String),
    partition Int64,
    first_sequence Int64,
    next_sequence Int64,
    heartbeat_sequence Int64,
    emitted Int64,
    spooled Int64,
    dropped Int64,
    closed Bool,
    recorded_at DateTime64(6, 'UTC'),
    first_offset Int64,
    content_hashes String CODEC(NONE)
)
ENGINE = MergeTree
ORDER BY (gateway_id, epoch, topic, partition, first_sequence);

-- Checkpoints and running totals; the row with the greatest next_offset counts.
CREATE TABLE IF NOT EXISTS ingest_batches
(
    topic LowCardinality(String),
    partition Int64,
    first_offset Int64,
    next_offset Int64,
    replay_from Int64,
    state String CODEC(ZSTD(3)),
    log_time DateTime64(6, 'UTC'),
    posting_floor DateTime64(6, 'UTC'),
    metadata_offset Int64,
    last_digest String,
    partitions Int64,
    fold_release UInt16,
    records Int64,
    records_skipped Int64,
    records_batches Int64,
    records_operator Int64,
    records_quarantined Int64,
    events_received Int64,
    events_admitted Int64,
    events_duplicate Int64,
    events_conflict Int64,
    events_quarantined Int64,
    events_corroborating Int64,
    requests Int64,
    responses_fresh Int64,
    responses_late Int64,
    decisions Int64,
    orphans Int64,
    worker LowCardinality(String),
    written_at DateTime64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (topic, partition, next_offset);
