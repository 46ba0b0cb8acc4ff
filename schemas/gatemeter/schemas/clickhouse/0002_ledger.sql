-- Proof and correction: what operators did, what gateways attested, corrections, seals and the ledger.

-- What gateways attested, as signed; `gatemeter audit` checks it with their public keys.
CREATE TABLE IF NOT EXISTS attestations
(
    gateway_id LowCardinality(String),
    epoch LowCardinality(String),
    topic LowCardinality(String),
    partition Int64,
    from_sequence Int64,
    to_sequence Int64,
    kid LowCardinality(String),
    attestation String,
    signature String CODEC(NONE),
    offset Int64,
    recorded_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (gateway_id, epoch, topic, partition, from_sequence, to_sequence, offset)
SETTINGS min_bytes_for_wide_part = 134217728;

-- What an operator gave up, and why.
CREATE TABLE IF NOT EXISTS quarantine_discards
(
    topic LowCardinality(String),
    partition Int64,
    offset Int64,
    event_index Int64,
    gateway_id LowCardinality(String),
    epoch LowCardinality(String),
    first_sequence Int64,
    next_sequence Int64,
    reason String,
    kid LowCardinality(String),
    discard_offset Int64,
    recorded_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, partition, offset, event_index, discard_offset)
SETTINGS min_bytes_for_wide_part = 134217728;

-- Runs of corrections that an operator made real. The first COMMIT of a run counts.
CREATE TABLE IF NOT EXISTS commits
(
    run_id String,
    version UInt64,
    rows_digest String,
    entries Int64,
    cause LowCardinality(String),
    reason String,
    posted_hour DateTime64(6, 'UTC'),
    kid LowCardinality(String),
    topic LowCardinality(String),
    partition Int64,
    offset Int64,
    recorded_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(version)
ORDER BY run_id
SETTINGS min_bytes_for_wide_part = 134217728;

-- Who did what, when and why: every signed record of an operator, once.
CREATE TABLE IF NOT EXISTS operator_log
(
    topic LowCardinality(String),
    partition Int64,
    offset Int64,
    at DateTime64(6, 'UTC'),
    kid LowCardinality(String),
    act LowCardinality(String),
    subject String,
    reason String,
    detail String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, partition, offset)
SETTINGS min_bytes_for_wide_part = 134217728;

-- Staged corrections; they count where `commits` has their run with the digest of its rows.
CREATE TABLE IF NOT EXISTS corrections
(
    run_id String,
    entry Int64,
    kind LowCardinality(String),
    target LowCardinality(String),
    gateway_id LowCardinality(String),
    request_id String,
    attempt UInt16,
    response_hash String,
    usage_hour DateTime64(6, 'UTC'),
    tenant_id Nullable(String),
    app_id Nullable(String),
    workload_id Nullable(String),
    cost_centre Nullable(String),
    business_unit Nullable(String),
    organisation Nullable(String),
    currency LowCardinality(String),
    rate_card_id LowCardinality(String),
    plan_id LowCardinality(String),
    list_cost Nullable(Decimal(38, 12)),
    provider_cost Nullable(Decimal(38, 12)),
    token_cost Nullable(Decimal(38, 12)),
    model_cost Nullable(Decimal(38, 12)),
    policy_cost Nullable(Decimal(38, 12)),
    markup Nullable(Decimal(38, 12)),
    cache_price Nullable(Decimal(38, 12)),
    charge Nullable(Decimal(38, 12)),
    avoided_provider_cost Nullable(Decimal(38, 12)),
    avoided_charge Nullable(Decimal(38, 12)),
    absorbed Nullable(Decimal(38, 12)),
    absorbed_to LowCardinality(String),
    price_status LowCardinality(String),
    cause LowCardinality(String),
    reason String,
    evidence_place String,
    retry_rule LowCardinality(String)
)
ENGINE = MergeTree
ORDER BY (run_id, entry)
SETTINGS min_bytes_for_wide_part = 134217728;

-- Sealed entries, append-only: read the view ledger_entries, where those of canonical seals count, each once. Two sealers
-- of one hour write equal rows; they collapse. Granules are small, so that the rows of one tenant are a part of an hour's.
CREATE TABLE IF NOT EXISTS ledger
(
    seal_id String,
    entry Int64,
    posted_hour DateTime64(6, 'UTC'),
    usage_hour DateTime64(6, 'UTC'),
    usage_period LowCardinality(String),
    posting_period LowCardinality(String),
    kind LowCardinality(String),
    cause LowCardinality(String),
    reverses String,
    reference String,
    gateway_id LowCardinality(String),
    request_id String,
    decision_id String,
    attempt UInt16,
    response_hash String,
    tenant_id LowCardinality(String),
    app_id LowCardinality(String),
    workload_id LowCardinality(String),
    cost_centre LowCardinality(String),
    business_unit LowCardinality(String),
    organisation LowCardinality(String),
    evidence_grade LowCardinality(String),
    attribution LowCardinality(String),
    provider LowCardinality(String),
    model LowCardinality(String),
    served_model LowCardinality(String),
    purpose LowCardinality(String),
    status LowCardinality(String),
    attempt_role LowCardinality(String),
    usage_source LowCardinality(String),
    usage_consistency LowCardinality(String),
    gateway_cache LowCardinality(String),
    latency_us Nullable(Int64),
    latency_class LowCardinality(String),
    policy_id LowCardinality(String),
    policy_version LowCardinality(String),
    outcome LowCardinality(String),
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
    input_tokens Int64,
    output_tokens Int64,
    avoided_input_tokens Nullable(Int64),
    avoided_output_tokens Nullable(Int64),
    images Nullable(Int64),
    media_ms Nullable(Int64),
    searches Nullable(Int64),
    tool_calls Nullable(Int64),
    price_status LowCardinality(String),
    currency LowCardinality(String),
    rate_card_id LowCardinality(String),
    plan_id LowCardinality(String),
    list_cost Nullable(Decimal(38, 12)),
    provider_cost Nullable(Decimal(38, 12)),
    token_cost Nullable(Decimal(38, 12)),
    model_cost Nullable(Decimal(38, 12)),
    policy_cost Nullable(Decimal(38, 12)),
    markup Nullable(Decimal(38, 12)),
    cache_price Nullable(Decimal(38, 12)),
    charge Nullable(Decimal(38, 12)),
    avoided_provider_cost Nullable(Decimal(38, 12)),
    avoided_charge Nullable(Decimal(38, 12)),
    absorbed Nullable(Decimal(38, 12)),
    absorbed_to LowCardinality(String),
    retry_cost Nullable(Decimal(38, 12)),
    reason String,
    INDEX by_usage_hour usage_hour TYPE minmax GRANULARITY 1,
    INDEX by_request request_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(posted_hour)
ORDER BY (posted_hour, tenant_id, gateway_id, request_id, attempt, seal_id, entry)
SETTINGS min_bytes_for_wide_part = 134217728, index_granularity = 1024;

-- The leaves of each seal's tree: what a fact looked like when its hour was sealed.
CREATE TABLE IF NOT EXISTS seal_leaves
(
    seal_id String,
    posted_hour DateTime64(6, 'UTC'),
    leaf_index Int64,
    kind LowCardinality(String),
    gateway_id LowCardinality(String),
    request_id String,
    attempt Int64,
    hash String,
    leaf String CODEC(NONE),
    INDEX by_request request_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(posted_hour)
ORDER BY (posted_hour, gateway_id, request_id, attempt, seal_id, leaf_index)
SETTINGS min_bytes_for_wide_part = 134217728;

-- Canonical seals: a copy of the topic gatemeter.seals.
CREATE TABLE IF NOT EXISTS seals
(
    number Int64,
    seal_id String,
    previous String,
    posted_hour DateTime64(6, 'UTC'),
    leaves Int64,
    leaves_root String,
    entries Int64,
    entries_root String,
    open_period String,
    kid LowCardinality(String),
    value String CODEC(ZSTD(3)),
    signature String CODEC(NONE),
    offset Int64,
    sealed_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY number
SETTINGS min_bytes_for_wide_part = 134217728;

-- Months that are closed: a copy of the topic gatemeter.seals.
CREATE TABLE IF NOT EXISTS closed_periods
(
    period String,
    after_seal Int64,
    open_points String CODEC(ZSTD(3)),
    kid LowCardinality(String),
    reason String,
    offset Int64,
    closed_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY period
SETTINGS min_bytes_for_wide_part = 134217728;
