-- Who opens and resolves disputes reads like an analyst, evidence included, and adds to these two tables alone:
-- GRANT gatemeter_disputes TO ann.
CREATE ROLE IF NOT EXISTS gatemeter_disputes;
GRANT SELECT ON * TO gatemeter_disputes;
GRANT INSERT ON dispute_openings TO gatemeter_disputes;
GRANT INSERT ON dispute_resolutions TO gatemeter_disputes;
REVOKE SELECT(key, headers, raw) ON quarantine FROM gatemeter_disputes;
REVOKE SELECT(raw, first_raw) ON exceptions FROM gatemeter_disputes;
