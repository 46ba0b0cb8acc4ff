-- The worker that looks for exceptions reads facts, metadata and evidence, and writes what it finds; acts of operators and
-- everything else stay as they are. Operators who say what became of an exception insert into `exception_acts`:
-- GRANT gatemeter_exceptions TO ann.
GRANT INSERT, SELECT ON exception_hours TO gatemeter_writer;
GRANT INSERT, SELECT ON exception_days TO gatemeter_writer;
GRANT INSERT, SELECT ON found_exceptions TO gatemeter_writer;
GRANT INSERT, SELECT ON exception_notices TO gatemeter_writer;
GRANT SELECT ON exception_acts TO gatemeter_writer;
GRANT SELECT ON facts_between TO gatemeter_writer;
GRANT SELECT ON folded_exceptions TO gatemeter_writer;
GRANT SELECT ON exception_list TO gatemeter_writer;
GRANT SELECT ON metadata_records TO gatemeter_writer;
GRANT SELECT ON identities TO gatemeter_writer;
GRANT SELECT ON credentials TO gatemeter_writer;
GRANT SELECT ON quarantine_state TO gatemeter_writer;
GRANT SELECT ON evidence_calls TO gatemeter_writer;
GRANT SELECT ON evidence_candidates TO gatemeter_writer;
GRANT SELECT ON evidence_trace_matches TO gatemeter_writer;
GRANT SELECT ON evidence_matches TO gatemeter_writer;
GRANT SELECT ON charged_evidence TO gatemeter_writer;
GRANT SELECT ON unmetered_calls TO gatemeter_writer;

CREATE ROLE IF NOT EXISTS gatemeter_exceptions;
GRANT SELECT ON * TO gatemeter_exceptions;
GRANT INSERT ON exception_hours TO gatemeter_exceptions;
GRANT INSERT ON exception_days TO gatemeter_exceptions;
GRANT INSERT ON found_exceptions TO gatemeter_exceptions;
GRANT INSERT ON exception_acts TO gatemeter_exceptions;
GRANT INSERT ON exception_notices TO gatemeter_exceptions;
REVOKE SELECT(key, headers, raw) ON quarantine FROM gatemeter_exceptions;
REVOKE SELECT(raw, first_raw) ON exceptions FROM gatemeter_exceptions;
