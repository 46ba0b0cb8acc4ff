-- Terms of statements as SQL: commitments, exchange rates and budgets as operators put them in force, and what crossed.
-- They are read from the operator log, which the fold writes from the signed records; of records of one id and
-- effective_from the last one counts. Several versions of an id may be there: the one in force that began last holds.

CREATE OR REPLACE VIEW commitments AS
SELECT
    subject AS commitment_id,
    fromUnixTimestamp64Micro(JSONExtractInt(detail, 'effective_from'), 'UTC') AS effective_from,
    fromUnixTimestamp64Micro(JSONExtract(detail, 'effective_to', 'Nullable(Int64)'), 'UTC') AS effective_to,
    JSONExtractString(detail, 'provider') AS provider,
    JSONExtract(detail, 'models', 'Array(String)') AS models,
    JSONExtract(detail, 'service_tier', 'Nullable(String)') AS service_tier,
    JSONExtract(detail, 'region', 'Nullable(String)') AS region,
    toDecimal128(JSONExtractString(detail, 'amount'), 12) AS amount,
    JSONExtractString(detail, 'per') AS per,
    JSONExtractString(detail, 'settled') AS settled,
    JSONExtractString(detail, 'currency') AS currency,
    JSONExtractString(detail, 'source') AS source
FROM (SELECT * FROM operator_log FINAL WHERE act = 'Commitment')
ORDER BY topic DESC, offset DESC
LIMIT 1 BY commitment_id, effective_from;

-- One unit of `base` is `rate` units of `quote`.
CREATE OR REPLACE VIEW fx_rates AS
SELECT
    splitByChar('/', subject)[1] AS base,
    splitByChar('/', subject)[2] AS quote,
    fromUnixTimestamp64Micro(JSONExtractInt(detail, 'effective_from'), 'UTC') AS effective_from,
    fromUnixTimestamp64Micro(JSONExtract(detail, 'effective_to', 'Nullable(Int64)'), 'UTC') AS effective_to,
    toDecimal256(JSONExtractString(detail, 'rate'), 30) AS rate,
    JSONExtractString(detail, 'source') AS source
FROM (SELECT * FROM operator_log FINAL WHERE act = 'FxRate')
ORDER BY topic DESC, offset DESC
LIMIT 1 BY base, quote, effective_from;

CREATE OR REPLACE VIEW budgets AS
SELECT
    subject AS budget_id,
    fromUnixTimestamp64Micro(JSONExtractInt(detail, 'effective_from'), 'UTC') AS effective_from,
    fromUnixTimestamp64Micro(JSONExtract(detail, 'effective_to', 'Nullable(Int64)'), 'UTC') AS effective_to,
    JSONExtractString(detail, 'scope') AS scope,
    JSONExtractString(detail, 'subject') AS of,
    toDecimal128(JSONExtractString(detail, 'amount'), 12) AS amount,
    JSONExtractString(detail, 'currency') AS currency,
    JSONExtract(detail, 'thresholds', 'Array(Int64)') AS thresholds,
    JSONExtractString(detail, 'owner') AS owner
FROM (SELECT * FROM operator_log FINAL WHERE act = 'Budget')
ORDER BY topic DESC, offset DESC
LIMIT 1 BY budget_id, effective_from;

-- Thresholds of budgets that were crossed, each once a month; spend as it was when that was found.
CREATE OR REPLACE VIEW budget_crossings AS
SELECT
    JSONExtractString(detail, 'budget') AS budget_id,
    JSONExtractString(detail, 'period') AS period,
    toInt64(event_index) AS threshold_percent,
    recorded_at,
    JSONExtractString(detail, 'scope') AS scope,
    JSONExtractString(detail, 'subject') AS of,
    toDecimal128(JSONExtractString(detail, 'spend'), 12) AS spend,
    toDecimal128(JSONExtractString(detail, 'amount'), 12) AS amount,
    JSONExtractString(detail, 'currency') AS currency,
    JSONExtractString(detail, 'owner') AS owner
FROM exceptions FINAL
WHERE kind = 'budget_crossed';
