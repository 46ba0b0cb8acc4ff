-- Roles for people and workers; a real server only, the embedded engine has none. Users are the operator's to make:
-- CREATE USER worker IDENTIFIED BY '…'; GRANT gatemeter_writer TO worker.

-- Workers: insert, and read their checkpoints. Neither alter nor delete.
CREATE ROLE IF NOT EXISTS gatemeter_writer;
GRANT INSERT, SELECT ON usage_facts TO gatemeter_writer;
GRANT INSERT, SELECT ON policy_facts TO gatemeter_writer;
GRANT INSERT, SELECT ON usage_windows TO gatemeter_writer;
GRANT INSERT, SELECT ON evidence TO gatemeter_writer;
GRANT INSERT, SELECT ON exceptions TO gatemeter_writer;
GRANT INSERT, SELECT ON quarantine TO gatemeter_writer;
GRANT INSERT, SELECT ON gateway_epochs TO gatemeter_writer;
GRANT INSERT, SELECT ON ingest_batches TO gatemeter_writer;
GRANT INSERT, SELECT ON attestations TO gatemeter_writer;
GRANT INSERT, SELECT ON quarantine_discards TO gatemeter_writer;
GRANT INSERT, SELECT ON commits TO gatemeter_writer;
GRANT INSERT, SELECT ON operator_log TO gatemeter_writer;
GRANT INSERT, SELECT ON corrections TO gatemeter_writer;
GRANT INSERT, SELECT ON ledger TO gatemeter_writer;
GRANT INSERT, SELECT ON seal_leaves TO gatemeter_writer;
GRANT INSERT, SELECT ON seals TO gatemeter_writer;
GRANT INSERT, SELECT ON closed_periods TO gatemeter_writer;
-- Workers that seal compute with the views that people read.
GRANT SELECT ON replacements_as_of TO gatemeter_writer;
GRANT SELECT ON attempts_as_of TO gatemeter_writer;
GRANT SELECT ON decisions_as_of TO gatemeter_writer;
GRANT SELECT ON usage_lines_as_of TO gatemeter_writer;
GRANT SELECT ON decision_lines_as_of TO gatemeter_writer;
GRANT SELECT ON sealed_lines_as_of TO gatemeter_writer;
GRANT SELECT ON ledger_entries TO gatemeter_writer;
-- The worker that watches budgets reads what was charged.
GRANT SELECT ON charge_lines TO gatemeter_writer;
GRANT SELECT ON charge_lines_of TO gatemeter_writer;
GRANT SELECT ON unsealed_of TO gatemeter_writer;

-- Analysts: read tables and views, nothing else. Raw bytes of refused and conflicting records are not theirs.
CREATE ROLE IF NOT EXISTS gatemeter_analyst;
GRANT SELECT ON * TO gatemeter_analyst;
REVOKE SELECT(key, headers, raw) ON quarantine FROM gatemeter_analyst;
REVOKE SELECT(raw, first_raw) ON exceptions FROM gatemeter_analyst;

-- Those who import bills: what analysts may, and insert bills. No fact and no charge is theirs to write.
CREATE ROLE IF NOT EXISTS gatemeter_biller;
GRANT SELECT ON * TO gatemeter_biller;
REVOKE SELECT(key, headers, raw) ON quarantine FROM gatemeter_biller;
REVOKE SELECT(raw, first_raw) ON exceptions FROM gatemeter_biller;
GRANT INSERT ON billing_imports TO gatemeter_biller;
GRANT INSERT ON billing_coverage TO gatemeter_biller;
GRANT INSERT ON billing_lines TO gatemeter_biller;
GRANT INSERT ON billing_rejected TO gatemeter_biller;
