-- Those who reconcile: what analysts may, and keep runs. What a run posts goes through the log, like every correction, and is
-- staged by those who may correct: GRANT gatemeter_reconciler TO ann; GRANT gatemeter_writer TO ann.
CREATE ROLE IF NOT EXISTS gatemeter_reconciler;
GRANT SELECT ON * TO gatemeter_reconciler;
REVOKE SELECT(key, headers, raw) ON quarantine FROM gatemeter_reconciler;
REVOKE SELECT(raw, first_raw) ON exceptions FROM gatemeter_reconciler;
GRANT INSERT ON reconciliation_lines TO gatemeter_reconciler;
GRANT INSERT ON reconciliation_findings TO gatemeter_reconciler;
GRANT INSERT ON reconciliation_runs TO gatemeter_reconciler;
GRANT INSERT ON reconciliation_postings TO gatemeter_reconciler;
