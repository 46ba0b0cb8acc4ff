-- Disputes of tenants: what was said against a request or a whole statement, what the tables held at that moment, and how
-- it ended. Both tables are append-only: the first opening and the first resolution of an id count.

-- `evidence` is JSON as it stood when the dispute was opened (docs/statements.md), `evidence_digest` the SHA-256 of its
-- bytes. `gateway_id` and `request_id` are '' where the whole statement of (`tenant_id`, `period`) is disputed.
CREATE TABLE IF NOT EXISTS dispute_openings
(
    dispute_id String,
    tenant_id LowCardinality(String),
    period LowCardinality(String),
    gateway_id LowCardinality(String),
    request_id String,
    opened_at DateTime64(6, 'UTC'),
    opened_by String,
    reason String,
    evidence String CODEC(ZSTD(3)),
    evidence_digest String
)
ENGINE = MergeTree
ORDER BY (dispute_id, opened_at);

-- `state`: upheld, by the committed run of corrections `correction_run_id`, or rejected.
CREATE TABLE IF NOT EXISTS dispute_resolutions
(
    dispute_id String,
    state LowCardinality(String),
    resolved_at DateTime64(6, 'UTC'),
    resolved_by String,
    resolution String,
    correction_run_id String
)
ENGINE = MergeTree
ORDER BY (dispute_id, resolved_at);

CREATE OR REPLACE VIEW disputes AS
SELECT
    o.dispute_id AS dispute_id, o.tenant_id AS tenant_id, o.period AS period, o.gateway_id AS gateway_id,
    o.request_id AS request_id,
    if(r.dispute_id = '', 'open', r.state) AS state,
    o.opened_at AS opened_at, o.opened_by AS opened_by, o.reason AS reason, o.evidence_digest AS evidence_digest,
    if(r.dispute_id = '', NULL, r.resolved_at) AS resolved_at,
    r.resolved_by AS resolved_by, r.resolution AS resolution, r.correction_run_id AS correction_run_id
FROM
(
    SELECT * EXCEPT evidence FROM dispute_openings ORDER BY opened_at, evidence_digest LIMIT 1 BY dispute_id
) AS o
LEFT JOIN
(
    SELECT * FROM dispute_resolutions ORDER BY resolved_at, state, correction_run_id LIMIT 1 BY dispute_id
) AS r ON o.dispute_id = r.dispute_id
SETTINGS join_use_nulls = 0;
