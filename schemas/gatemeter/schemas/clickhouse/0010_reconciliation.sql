-- What came of comparing gateway facts with billing exports. Runs are kept, never changed; the row in
-- `reconciliation_runs` is written last, so a run counts whole or not at all.

-- One run. `causes`: JSON, amount and number of findings by cause; `settings`: JSON, tolerances and scopes it was made with.
-- `imports`: the billing imports that it read. Amounts are in the currency of the gateway's costs.
CREATE TABLE IF NOT EXISTS reconciliation_runs
(
    run_id String,
    made_at DateTime64(6, 'UTC'),
    made_by String,
    provider LowCardinality(String),
    period LowCardinality(String),
    workload_class LowCardinality(String),
    calendar LowCardinality(String),
    currency LowCardinality(String),
    facts_through DateTime64(6, 'UTC'),
    imports Array(String),
    provider_cost Decimal(38, 12),
    estimated_cost Decimal(38, 12),
    invoiced Decimal(38, 12),
    causes String,
    settings String
)
ENGINE = ReplacingMergeTree
ORDER BY run_id;

-- Both sides at the grain that both have. A quantity or amount is NULL where that side has no line.
CREATE TABLE IF NOT EXISTS reconciliation_lines
(
    run_id String,
    line Int64,
    billing_day Date,
    scope String,
    model LowCardinality(String),
    token_type LowCardinality(String),
    service_tier LowCardinality(String),
    workload_class LowCardinality(String),
    gateway_quantity Nullable(Int64),
    estimated_quantity Nullable(Int64),
    invoiced_quantity Nullable(Decimal(38, 12)),
    gateway_cost Nullable(Decimal(38, 12)),
    invoiced_cost Nullable(Decimal(38, 12)),
    variance Decimal(38, 12)
)
ENGINE = ReplacingMergeTree
ORDER BY (run_id, line);

-- Why the sides differ: the findings of a line add up to its variance. `line` is -1 where a charge of the provider belongs to
-- no line: a credit, a tax. `action`: reprice, allocate, unallocated, wait, dispute, none.
CREATE TABLE IF NOT EXISTS reconciliation_findings
(
    run_id String,
    finding Int64,
    line Int64,
    cause LowCardinality(String),
    action LowCardinality(String),
    billing_day Date,
    scope String,
    model LowCardinality(String),
    token_type LowCardinality(String),
    service_tier LowCardinality(String),
    workload_class LowCardinality(String),
    quantity Nullable(Decimal(38, 12)),
    amount Decimal(38, 12),
    evidence String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
ORDER BY (run_id, finding);

-- Which corrections took over what a run found. They count where `commits` has the run of corrections; '' where there was
-- nothing to post.
CREATE TABLE IF NOT EXISTS reconciliation_postings
(
    run_id String,
    correction_run String,
    takes_back Bool,
    accepted_at DateTime64(6, 'UTC'),
    accepted_by String,
    reason String,
    amount Decimal(38, 12),
    entries Int64
)
ENGINE = ReplacingMergeTree
ORDER BY (run_id, correction_run);

-- What became of each run: superseded by a later one of the same provider, period and workload class, accepted where its
-- postings are committed.
CREATE OR REPLACE VIEW reconciliation_states AS
WITH posted AS
(
    SELECT run_id, takes_back FROM reconciliation_postings FINAL
    WHERE correction_run = '' OR correction_run IN (SELECT run_id FROM commits)
)
SELECT
    run_id,
    multiIf(
        run_id IN (SELECT run_id FROM posted WHERE NOT takes_back)
            AND run_id NOT IN (SELECT run_id FROM posted WHERE takes_back), 'accepted',
        run_id = max(run_id) OVER (PARTITION BY provider, period, workload_class), 'open',
        'superseded') AS state
FROM (SELECT run_id, provider, period, workload_class FROM reconciliation_runs FINAL);

-- Where each reconciliation stands: a row a run and scope.
CREATE OR REPLACE VIEW reconciliation_status AS
SELECT
    r.run_id AS run_id,
    r.provider AS provider,
    l.scope AS account,
    r.period AS period,
    r.workload_class AS workload_class,
    r.currency AS currency,
    s.state AS state,
    r.made_at AS made_at,
    l.provider_cost AS provider_cost,
    l.invoiced AS invoiced,
    l.invoiced - l.provider_cost AS variance,
    l.invoiced - l.provider_cost - l.unexplained AS explained,
    l.unexplained AS unexplained
FROM (SELECT * FROM reconciliation_runs FINAL) AS r
INNER JOIN
(
    SELECT
        run_id, scope,
        sum(gateway) AS provider_cost,
        sum(invoice) AS invoiced,
        sum(open) AS unexplained
    FROM
    (
        SELECT
            run_id, scope,
            ifNull(gateway_cost, toDecimal128(0, 12)) AS gateway,
            ifNull(invoiced_cost, toDecimal128(0, 12)) AS invoice,
            toDecimal128(0, 12) AS open
        FROM reconciliation_lines FINAL
        UNION ALL
        SELECT
            run_id, scope,
            toDecimal128(0, 12) AS gateway,
            if(line = -1, amount, toDecimal128(0, 12)) AS invoice,
            if(cause IN ('unmetered', 'missing_provider_line'), amount, toDecimal128(0, 12)) AS open
        FROM reconciliation_findings FINAL
    )
    GROUP BY run_id, scope
) AS l ON r.run_id = l.run_id
INNER JOIN reconciliation_states AS s ON r.run_id = s.run_id;
