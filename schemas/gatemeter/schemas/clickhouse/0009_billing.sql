-- What providers say they bill: lines of billing exports as imported, never changed. An import counts from the moment its row
-- is in `billing_imports`, which is written last; a later import of the same days replaces the lines of these days.

-- One imported file, in one row. `import_id` is the digest of the file's bytes, the format and the mapping of columns, so a
-- file that is imported again is known. `left_out`: its rows of services that are none of AI.
CREATE TABLE IF NOT EXISTS billing_imports
(
    import_id String,
    imported_at DateTime64(6, 'UTC'),
    imported_by String,
    format LowCardinality(String),
    file_name String,
    file_digest String,
    mapping_digest String,
    provider LowCardinality(String),
    calendar LowCardinality(String),
    first_day Nullable(Date),
    last_day Nullable(Date),
    lines Int64,
    rejected Int64,
    left_out Int64,
    lines_digest String
)
ENGINE = ReplacingMergeTree
ORDER BY import_id;

-- Which days of which account an import speaks of: days without a line too, since a restatement may take lines away.
-- `content` is 'cost', 'usage' or 'cost_and_usage': an account's cost report does not replace its usage report.
CREATE TABLE IF NOT EXISTS billing_coverage
(
    import_id String,
    provider LowCardinality(String),
    account String,
    content LowCardinality(String),
    billing_day Date
)
ENGINE = ReplacingMergeTree
ORDER BY (import_id, provider, account, content, billing_day);

-- `line` numbers the lines of an import, `source_line` says where the row is in its file: a row of counters gives several.
CREATE TABLE IF NOT EXISTS billing_lines
(
    import_id String,
    line Int64,
    source_line Int64,
    provider LowCardinality(String),
    content LowCardinality(String),
    account String,
    project String,
    key_id String,
    billing_day Date,
    calendar LowCardinality(String),
    starts_at DateTime64(6, 'UTC'),
    ends_at DateTime64(6, 'UTC'),
    charge_category LowCardinality(String),
    charge_class LowCardinality(String),
    line_item String,
    model LowCardinality(String),
    token_type LowCardinality(String),
    service_tier LowCardinality(String),
    workload_class LowCardinality(String),
    region LowCardinality(String),
    quantity Nullable(Decimal(38, 12)),
    unit LowCardinality(String),
    amount Nullable(Decimal(38, 12)),
    list_amount Nullable(Decimal(38, 12)),
    currency LowCardinality(String),
    tags String CODEC(ZSTD(3)),
    raw String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
ORDER BY (import_id, line);

-- Rows of a file that could not be read, with the line and the reason.
CREATE TABLE IF NOT EXISTS billing_rejected
(
    import_id String,
    line Int64,
    field String,
    reason String,
    raw String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
ORDER BY (import_id, line, field);

-- The import that counts for a day: of those that speak of it the latest, ties by id.
CREATE OR REPLACE VIEW billing_days AS
SELECT provider, account, content, billing_day, argMax(import_id, (imported_at, import_id)) AS import_id
FROM (SELECT * FROM billing_coverage FINAL) AS covered
INNER JOIN (SELECT import_id, imported_at FROM billing_imports FINAL) AS imports USING (import_id)
GROUP BY provider, account, content, billing_day;

CREATE OR REPLACE VIEW billing_lines_in_force AS
SELECT *
FROM (SELECT * FROM billing_lines FINAL)
WHERE (import_id, provider, account, content, billing_day) IN
    (SELECT import_id, provider, account, content, billing_day FROM billing_days);
