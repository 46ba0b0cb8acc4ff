-- Exceptions: what a look at the facts has found, what operators said about it, and one list with what the fold tells.
-- Nothing here is money of a tenant; no detector changes a fact.

-- Facts of the requests that began in [since, until), the truth about each attempt as it was metered (corrections are not
-- applied), without the columns of amounts and usage that no detector needs. Rows that came more than three days late are
-- not seen: so only few parts of the table are read.
CREATE OR REPLACE VIEW facts_between AS
SELECT
    gateway_id, request_id, attempt,
    best.1 AS usage_hour, best.2 AS request_started_at, best.3 AS tenant_id, best.4 AS app_id, best.5 AS workload_id,
    best.6 AS credential_fingerprint, best.7 AS attribution, best.8 AS attribution_note, best.9 AS provider,
    best.10 AS model, best.11 AS region, best.12 AS status, best.13 AS http_status, best.14 AS purpose,
    best.15 AS parent_request_id, best.16 AS trace_id, best.17 AS content_digest, best.18 AS gateway_cache,
    best.19 AS price_status, best.20 AS currency, best.21 AS list_cost, best.22 AS provider_cost,
    best.23 AS input_tokens, best.24 AS cache_read_tokens, best.25 AS output_tokens, best.26 AS client_network
FROM
(
    SELECT
        gateway_id, request_id, attempt,
        argMax((
            usage_hour, request_started_at, toString(tenant_id), toString(app_id), toString(workload_id),
            credential_fingerprint, toString(attribution), toString(attribution_note), toString(provider),
            toString(model), toString(region), toString(status), http_status, toString(purpose),
            parent_request_id, trace_id, content_digest, toString(gateway_cache),
            toString(price_status), toString(currency), list_cost, provider_cost,
            ifNull(input_text_uncached, 0) + ifNull(input_text_cache_read, 0) + ifNull(input_text_cache_write_5m, 0)
                + ifNull(input_text_cache_write_1h, 0) + ifNull(input_audio_uncached, 0)
                + ifNull(input_audio_cache_read, 0) + ifNull(input_image_uncached, 0)
                + ifNull(input_image_cache_read, 0),
            ifNull(input_text_cache_read, 0) + ifNull(input_audio_cache_read, 0) + ifNull(input_image_cache_read, 0),
            ifNull(output_text_visible, 0) + ifNull(output_text_reasoning, 0) + ifNull(output_audio_visible, 0)
                + ifNull(output_image_visible, 0),
            toString(client_network)
        ), (version, response_hash)) AS best
    FROM usage_facts
    WHERE usage_hour >= {since:DateTime64(6, 'UTC')} AND usage_hour < {until:DateTime64(6, 'UTC')}
        AND posted_hour >= {since:DateTime64(6, 'UTC')} - INTERVAL 1 HOUR
        AND posted_hour < {until:DateTime64(6, 'UTC')} + INTERVAL 3 DAY
    GROUP BY gateway_id, request_id, attempt
);

-- What is usual: facts by the hour in which their request began. A look writes its whole day again: keys that are no more
-- become rows of zeros, so read `requests > 0 OR attempts > 0`, with FINAL.
CREATE TABLE IF NOT EXISTS exception_hours
(
    hour DateTime64(6, 'UTC'),
    tenant_id LowCardinality(String),
    app_id LowCardinality(String),
    workload_id LowCardinality(String),
    credential_fingerprint String,
    provider LowCardinality(String),
    model LowCardinality(String),
    region LowCardinality(String),
    currency LowCardinality(String),
    made_at DateTime64(6, 'UTC'),
    requests Int64,
    attempts Int64,
    answered Int64,
    input_tokens Int64,
    cache_read_tokens Int64,
    cache_lookups Int64,
    cache_hits Int64,
    priced_tokens Int64,
    list_cost Decimal(38, 12),
    provider_cost Decimal(38, 12),
    client_networks Array(LowCardinality(String))  -- from which the calls came, 101 at most
)
ENGINE = ReplacingMergeTree(made_at)
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, tenant_id, app_id, workload_id, credential_fingerprint, provider, model, region, currency);

-- Days whose hours are in the table above, and when they were last written.
CREATE TABLE IF NOT EXISTS exception_days
(
    day Date,
    made_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(made_at)
ORDER BY day;

-- What was found, one row an exception: of a kind, a subject and a UTC day (`period`). Finding it again writes it again
-- where more came to it. `request_ids`: the first hundred of `requests`. `cost`: what providers bill for them, NULL where
-- nothing has a price or they have several currencies.
CREATE TABLE IF NOT EXISTS found_exceptions
(
    exception_id String,
    kind LowCardinality(String),
    severity LowCardinality(String),
    period Date,
    tenant_id LowCardinality(String),
    app_id LowCardinality(String),
    workload_id LowCardinality(String),
    credential_fingerprint String,
    provider LowCardinality(String),
    model LowCardinality(String),
    subject String,
    owner String,
    first_seen_at DateTime64(6, 'UTC'),
    last_seen_at DateTime64(6, 'UTC'),
    seen String,
    expected String,
    request_ids Array(String),
    requests UInt64,
    cost Nullable(Decimal(38, 12)),
    currency LowCardinality(String),
    found_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(found_at)
ORDER BY exception_id;

-- What operators said: acknowledge, resolve, reopen, assign. Only added to; the last one counts.
CREATE TABLE IF NOT EXISTS exception_acts
(
    exception_id String,
    at DateTime64(6, 'UTC'),
    act LowCardinality(String),
    who String,
    reason String,
    owner String
)
ENGINE = MergeTree
ORDER BY (exception_id, at);

-- What webhooks took. `webhook`: digest of its address.
CREATE TABLE IF NOT EXISTS exception_notices
(
    webhook String,
    exception_id String,
    sent_at DateTime64(6, 'UTC'),
    http_status UInt16
)
ENGINE = MergeTree
ORDER BY (webhook, exception_id);

-- What the fold and the watch of budgets wrote, as exceptions: rows of one kind, day and subject together. What detectors
-- find with its requests and cost (usage without a price, expired and offboarded credentials) is not repeated.
CREATE OR REPLACE VIEW folded_exceptions AS
SELECT
    lower(hex(SHA256(concat(kind, '\n', toString(day), '\n', what)))) AS exception_id,
    kind,
    multiIf(
        kind = 'bad_attestation', 'critical',
        kind = 'conflict', 'high',
        kind = 'identity', if(endsWith(note, '_offboarded'), 'high', 'medium'),
        kind = 'budget_crossed', if(percent >= 100, 'high', 'medium'),
        kind IN ('usage_inconsistent', 'avoided_unpriced'), 'low',
        'medium') AS severity,
    tenant_id, app_id, workload_id, credential_fingerprint, provider, model, owner,
    min(e.recorded_at) AS first_seen_at,
    max(e.recorded_at) AS last_seen_at,
    multiIf(
        kind = 'budget_crossed', concat(max(spend), ' ', currency, ' spent, ', toString(percent), ' % crossed'),
        kind = 'identity', concat(toString(sum(events)), ' events: ', replaceAll(note, '_', ' ')),
        concat(toString(sum(events)), ' events: ', replaceAll(kind, '_', ' '))) AS seen,
    multiIf(
        kind = 'budget_crossed', concat('at most ', max(amount), ' ', currency, ' in the month'),
        kind = 'identity', 'identities in force, of the tenant that they are registered under',
        kind = 'conflict', 'one content of one revision',
        kind = 'start_mismatch', 'one start of one request',
        kind = 'usage_inconsistent', 'buckets that add up to what the provider says in total',
        kind = 'avoided_unpriced', 'a price for what a cache hit avoided',
        kind = 'bad_attestation', 'attestations that a key of the gateway signed',
        '') AS expected,
    arraySlice(arraySort(groupUniqArrayIf(100)(request_id, request_id != '')), 1, 100) AS request_ids,
    toUInt64(greatest(uniqExactIf(request_id, request_id != ''), sum(events) * (kind != 'budget_crossed'))) AS requests,
    if(kind = 'budget_crossed', max(toDecimal128OrNull(spend, 12)), NULL) AS cost,
    currency
FROM
(
    SELECT
        toString(kind) AS kind, gateway_id, request_id, recorded_at,
        JSONExtractString(detail, 'note') AS note,
        if(kind = 'budget_crossed' AND JSONExtractString(detail, 'scope') = 'tenant',
            JSONExtractString(detail, 'subject'), JSONExtractString(detail, 'tenant_id')) AS tenant_id,
        JSONExtractString(detail, 'app_id') AS app_id,
        JSONExtractString(detail, 'workload_id') AS workload_id,
        JSONExtractString(detail, 'credential_fingerprint') AS credential_fingerprint,
        JSONExtractString(detail, 'provider') AS provider,
        JSONExtractString(detail, 'model') AS model,
        JSONExtractString(detail, 'owner') AS owner,
        JSONExtractString(detail, 'currency') AS currency,
        JSONExtractString(detail, 'spend') AS spend,
        JSONExtractString(detail, 'amount') AS amount,
        JSONExtractInt(detail, 'threshold_percent') AS percent,
        greatest(JSONExtractInt(detail, 'events'), 1) AS events,
        toDate(recorded_at, 'UTC') AS day,
        multiIf(
            kind IN ('conflict', 'start_mismatch'), concat(gateway_id, '\n', request_id),
            kind = 'budget_crossed', concat(topic, '\n', toString(offset), '\n', toString(event_index)),
            kind = 'identity', JSONExtractString(detail, 'identity_id'),
            gateway_id) AS which,
        arrayStringConcat(
            [which, note, tenant_id, app_id, workload_id, credential_fingerprint, provider, model], '\n') AS what
    FROM exceptions FINAL
    WHERE kind != 'unpriced'
        AND NOT (kind = 'identity'
            AND JSONExtractString(detail, 'note') IN ('credential_expired', 'credential_offboarded'))
) AS e
GROUP BY
    kind, day, what, note, tenant_id, app_id, workload_id, credential_fingerprint, provider, model, owner, currency,
    percent;

-- Every exception with its state. An exception that is found again keeps it; one that was resolved and happens again on a
-- later day is another one, and open.
CREATE OR REPLACE VIEW exception_list AS
SELECT
    e.exception_id AS exception_id,
    e.kind AS kind,
    e.severity AS severity,
    multiIf(a.last_act = 'acknowledge', 'acknowledged', a.last_act = 'resolve', 'resolved', 'open') AS state,
    a.why AS state_reason,
    e.tenant_id AS tenant_id,
    e.app_id AS app_id,
    e.workload_id AS workload_id,
    e.credential_fingerprint AS credential_fingerprint,
    e.provider AS provider,
    e.model AS model,
    if(a.assigned_to != '', a.assigned_to, e.owner) AS owner,
    e.first_seen_at AS first_seen_at,
    e.last_seen_at AS last_seen_at,
    e.seen AS seen,
    e.expected AS expected,
    e.request_ids AS request_ids,
    e.requests AS requests,
    e.cost AS cost,
    e.currency AS currency
FROM
(
    SELECT
        exception_id, toString(kind) AS kind, toString(severity) AS severity, toString(tenant_id) AS tenant_id,
        toString(app_id) AS app_id, toString(workload_id) AS workload_id, credential_fingerprint,
        toString(provider) AS provider, toString(model) AS model, owner, first_seen_at, last_seen_at, seen, expected,
        request_ids, requests, cost, toString(currency) AS currency
    FROM found_exceptions FINAL
    UNION ALL
    SELECT
        exception_id, kind, severity, tenant_id, app_id, workload_id, credential_fingerprint, provider, model, owner,
        first_seen_at, last_seen_at, seen, expected, request_ids, requests, cost, currency
    FROM folded_exceptions
) AS e
LEFT JOIN
(
    SELECT
        exception_id,
        argMaxIf(toString(act), at, act != 'assign') AS last_act,
        argMaxIf(reason, at, act != 'assign') AS why,
        argMaxIf(owner, at, act = 'assign') AS assigned_to
    FROM exception_acts
    GROUP BY exception_id
) AS a ON e.exception_id = a.exception_id
SETTINGS join_use_nulls = 0;
