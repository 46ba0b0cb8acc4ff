-- Metadata for joins: what the signed records in force say, as rows. Views over `operator_log`, where the fold of
-- partition 0 writes each record that comes into force; so there is one truth, and facts are never looked up in them.
-- Of the records of one id and `effective_from` the latest counts. An entry holds in [effective_from, effective_to).

-- The records themselves, by kind.
CREATE OR REPLACE VIEW metadata_records AS
SELECT
    act AS kind,
    subject AS id,
    fromUnixTimestamp64Micro(JSONExtractInt(detail, 'effective_from'), 'UTC') AS effective_from,
    fromUnixTimestamp64Micro(JSONExtract(detail, 'effective_to', 'Nullable(Int64)'), 'UTC') AS effective_to,
    offset AS metadata_offset,
    at AS published_at,
    kid,
    reason,
    detail
FROM operator_log FINAL
WHERE act IN (
    'Tenant', 'Identity', 'Allocation', 'ChargePlan', 'PolicyPrices', 'RateCard', 'Gateway', 'Authority', 'Parameters',
    'Commitment', 'FxRate', 'Budget')
ORDER BY metadata_offset DESC
LIMIT 1 BY kind, id, effective_from;

CREATE OR REPLACE VIEW tenants AS
SELECT
    id AS tenant_id,
    effective_from,
    effective_to,
    JSONExtractString(detail, 'name') AS name,
    JSONExtractString(detail, 'cost_centre') AS cost_centre,
    JSONExtractString(detail, 'business_unit') AS business_unit,
    JSONExtractString(detail, 'organisation') AS organisation,
    JSONExtractString(detail, 'plan_id') AS plan_id,
    JSONExtract(detail, 'apps', 'Array(String)') AS apps,
    metadata_offset,
    published_at
FROM metadata_records
WHERE kind = 'Tenant';

-- Registered apps, workloads and credentials (fingerprints, never keys), with owners and dates.
CREATE OR REPLACE VIEW identities AS
SELECT
    JSONExtractString(detail, 'kind') AS identity_kind,
    JSONExtractString(detail, 'identity_id') AS identity_id,
    effective_from,
    effective_to,
    JSONExtractString(detail, 'tenant_id') AS tenant_id,
    JSONExtractString(detail, 'app_id') AS app_id,
    JSONExtractString(detail, 'workload_id') AS workload_id,
    JSONExtractString(detail, 'owner') AS owner,
    fromUnixTimestamp64Micro(JSONExtract(detail, 'issued_at', 'Nullable(Int64)'), 'UTC') AS issued_at,
    fromUnixTimestamp64Micro(JSONExtract(detail, 'rotated_at', 'Nullable(Int64)'), 'UTC') AS rotated_at,
    fromUnixTimestamp64Micro(JSONExtract(detail, 'expires_at', 'Nullable(Int64)'), 'UTC') AS expires_at,
    fromUnixTimestamp64Micro(JSONExtract(detail, 'offboarded_at', 'Nullable(Int64)'), 'UTC') AS offboarded_at,
    metadata_offset,
    published_at
FROM metadata_records
WHERE kind = 'Identity';

CREATE OR REPLACE VIEW apps AS
SELECT * EXCEPT (identity_kind, identity_id, app_id, workload_id), identity_id AS app_id
FROM identities
WHERE identity_kind = 'app';

CREATE OR REPLACE VIEW workloads AS
SELECT * EXCEPT (identity_kind, identity_id, workload_id), identity_id AS workload_id
FROM identities
WHERE identity_kind = 'workload';

CREATE OR REPLACE VIEW credentials AS
SELECT * EXCEPT (identity_kind, identity_id), identity_id AS credential_fingerprint
FROM identities
WHERE identity_kind = 'credential';

CREATE OR REPLACE VIEW charge_plans AS
SELECT
    id AS plan_id,
    effective_from,
    effective_to,
    toDecimal64(JSONExtractInt(detail, 'markup_ppm'), 4) / 10000 AS markup_percent,
    JSONExtractString(detail, 'retry_rule') AS retry_rule,
    JSONExtractString(detail, 'retry_cost_centre') AS retry_cost_centre,
    JSONExtractString(detail, 'cache_rule') AS cache_rule,
    toDecimal64(JSONExtractInt(detail, 'cache_price_ppm'), 4) / 10000 AS cache_price_percent,
    JSONExtractBool(detail, 'accept_claimed_identity') AS accept_claimed_identity,
    metadata_offset,
    published_at
FROM metadata_records
WHERE kind = 'ChargePlan';

-- A policy of a price list a row; policy '*' is any other.
CREATE OR REPLACE VIEW policy_prices AS
SELECT
    id AS prices_id,
    effective_from,
    effective_to,
    JSONExtractString(detail, 'currency') AS currency,
    price.policy_id AS policy_id,
    price.billed_by AS billed_by,
    toDecimal128(price.pico_per_decision, 12) / 1000000000000 AS per_decision,
    toDecimal128(price.pico_per_unit, 12) / 1000000000000 AS per_unit,
    toDecimal128(price.pico_per_scanned_token, 12) / 1000000000000 AS per_scanned_token,
    metadata_offset,
    published_at
FROM metadata_records
ARRAY JOIN JSONExtract(
    detail, 'prices',
    'Array(Tuple(policy_id String, billed_by String, pico_per_decision Int64, pico_per_unit Int64,
                 pico_per_scanned_token Int64))') AS price
WHERE kind = 'PolicyPrices';

-- Heads of rate cards.
CREATE OR REPLACE VIEW rate_cards AS
SELECT
    id AS card_id,
    effective_from,
    effective_to,
    JSONExtractString(detail, 'currency') AS currency,
    JSONExtractString(detail, 'content_hash') AS content_hash,
    JSONExtractString(detail, 'source') AS source,
    JSONLength(detail, 'rates') AS lines,
    metadata_offset,
    published_at
FROM metadata_records
WHERE kind = 'RateCard';

-- Lines of rate cards: a row a model, tier and thing that has a price (`priced`: a bucket, a meter or `request`).
-- Prices are of one token or unit. `input_tokens_above`: the price of all tokens of a request with more input tokens.
CREATE OR REPLACE VIEW rate_lines AS
SELECT
    card_id,
    currency,
    line.provider AS provider,
    line.model AS model,
    ifNull(line.service_tier, '') AS service_tier,
    line.workload_class AS workload_class,
    ifNull(line.region, '') AS region,
    line.input_tokens_above AS input_tokens_above,
    fromUnixTimestamp64Micro(line.effective_from, 'UTC') AS effective_from,
    fromUnixTimestamp64Micro(line.effective_to, 'UTC') AS effective_to,
    priced,
    toDecimal128(line.list_pico[priced], 12) / 1000000000000 AS list_price,
    toDecimal128(line.provider_pico[priced], 12) / 1000000000000 AS provider_price,
    card_from,
    card_to,
    metadata_offset
FROM
(
    SELECT
        id AS card_id,
        JSONExtractString(detail, 'currency') AS currency,
        effective_from AS card_from,
        effective_to AS card_to,
        metadata_offset,
        arrayJoin(JSONExtract(detail, 'rates',
            'Array(Tuple(provider String, model String, service_tier Nullable(String), workload_class String,
                         region Nullable(String), input_tokens_above Int64, effective_from Int64,
                         effective_to Nullable(Int64), list_pico Map(String, Int64),
                         provider_pico Map(String, Int64)))')) AS line
    FROM metadata_records
    WHERE kind = 'RateCard'
)
ARRAY JOIN mapKeys(line.provider_pico) AS priced;

-- Gateways and their keys: `batches` are signed with a shared secret (not here), `attestations` with a key of its own.
CREATE OR REPLACE VIEW gateways AS
SELECT
    id AS gateway_id,
    JSONExtractString(detail, 'gateway_kind') AS gateway_kind,
    key.1 AS signs,
    key.2 AS kid,
    key.3 AS public_key,
    fromUnixTimestamp64Micro(key.4, 'UTC') AS valid_from,
    fromUnixTimestamp64Micro(key.5, 'UTC') AS valid_to,
    metadata_offset,
    published_at
FROM metadata_records
ARRAY JOIN arrayConcat(
    arrayMap(k -> ('batches', k.kid, '', k.valid_from, k.valid_to), JSONExtract(
        detail, 'keys', 'Array(Tuple(kid String, valid_from Int64, valid_to Nullable(Int64)))')),
    arrayMap(k -> ('attestations', k.kid, k.public_key, k.valid_from, k.valid_to), JSONExtract(
        detail, 'attestation_keys',
        'Array(Tuple(kid String, public_key String, valid_from Int64, valid_to Nullable(Int64)))'))) AS key
WHERE kind = 'Gateway';

-- Rules that share what some usage costs among others, on statements only ('' is any).
CREATE OR REPLACE VIEW allocations AS
SELECT
    id AS allocation_id,
    effective_from,
    effective_to,
    JSONExtractString(detail, 'tenant_id') AS tenant_id,
    JSONExtractString(detail, 'app_id') AS app_id,
    JSONExtractString(detail, 'provider') AS provider,
    JSONExtractString(detail, 'model') AS model,
    JSONExtractString(detail, 'method') AS method,
    JSONExtract(
        detail, 'receivers',
        'Array(Tuple(tenant_id Nullable(String), cost_centre Nullable(String), share_ppm Nullable(Int64)))') AS receivers,
    metadata_offset,
    published_at
FROM metadata_records
WHERE kind = 'Allocation';
