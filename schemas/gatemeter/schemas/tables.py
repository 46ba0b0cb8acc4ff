"""The columns of every ClickHouse table that the processors write: name and logical type, in insert order.

The DDL in `clickhouse/` and the Arrow conversion of the sinks are both held to this list by tests. Logical types:
`string`, `int`, `uint`, `u16`, `u8`, `u64`, `bool`, `time` (microseconds UTC as int), `pico` (10⁻¹² currency units as
int; `Decimal(38, 12)` in ClickHouse), `bytes`. A `?` marks a nullable column.
"""

from __future__ import annotations

from typing import Final

INPUT_BUCKETS: Final = (
    "input_text_uncached",
    "input_text_cache_read",
    "input_text_cache_write_5m",
    "input_text_cache_write_1h",
    "input_audio_uncached",
    "input_audio_cache_read",
    "input_image_uncached",
    "input_image_cache_read",
)
OUTPUT_BUCKETS: Final = ("output_text_visible", "output_text_reasoning", "output_audio_visible", "output_image_visible")
BUCKETS: Final = INPUT_BUCKETS + OUTPUT_BUCKETS
METERS: Final = ("images", "media_ms", "searches", "tool_calls")

_ORIGIN = (
    ("topic", "string"),
    ("partition", "int"),
    ("offset", "int"),
    ("event_index", "int"),
    ("kid", "string"),
    ("epoch", "string"),
    ("sequence", "int"),
    ("metadata_offset", "int"),
    ("fold_release", "u16"),
)

_WHO = (
    ("tenant_id", "string"),
    ("app_id", "string"),
    ("workload_id", "string"),
    ("credential_fingerprint", "string"),
    ("end_user", "string"),
    ("identity_source", "string"),
    ("evidence_grade", "string"),  # A or B
    ("attribution", "string"),  # attributed, unattributed
    ("attribution_path", "string"),  # tenant, credential, workload: by what the tenant was found; '' where unattributed
    ("attribution_note", "string"),  # why unattributed, or what is odd about a registered identity
    ("cost_centre", "string"),
    ("business_unit", "string"),
    ("organisation", "string"),
)

TABLES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "usage_facts": (
        ("posted_hour", "time"),
        ("gateway_id", "string"),
        ("request_id", "string"),
        ("attempt", "u16"),
        ("response_hash", "string"),  # content hash of the RESPONSE, lower-case hex; '' for orphan and denied
        ("version", "u64"),
        ("usage_hour", "time"),
        ("request_started_at", "time"),
        ("occurred_at", "time"),
        ("recorded_at", "time"),  # timestamp of the charging record in the log
        ("status", "string"),  # ok, error, cancelled, timeout, orphan, denied
        ("has_response", "bool"),
        ("paired", "bool"),
        ("delivered", "bool?"),
        ("http_status", "int?"),
        ("finish_reason", "string"),
        ("provider_request_id", "string"),
        ("gateway_kind", "string"),
        *_WHO,
        ("provider", "string"),
        ("model", "string"),
        ("served_model", "string"),
        ("operation", "string"),
        ("stream", "bool?"),
        ("region", "string"),
        ("service_tier", "string"),
        ("workload_class", "string"),
        ("purpose", "string"),
        ("route", "string"),
        ("parent_request_id", "string"),
        ("trace_id", "string"),
        ("idempotency_key", "string"),
        ("client_request_id", "string"),
        ("client_network", "string"),
        ("content_digest", "string"),
        ("gateway_cache", "string"),
        ("latency_us", "int?"),
        ("ttft_us", "int?"),
        ("latency_class", "string"),  # fast, normal, slow, very_slow, unknown
        ("latency_thresholds_version", "u16"),
        ("usage_revision", "u8"),
        ("usage_source", "string"),
        ("usage_consistency", "string"),  # consistent, mismatch, unverified; '' where the gateway does not say
        (
            "estimated_with",
            "string",
        ),  # sides that the fold counted and the encoding: 'input+output o200k_base'; '' none
        *((bucket, "int?") for bucket in BUCKETS),
        *((meter, "int?") for meter in METERS),
        ("avoided_input_tokens", "int?"),
        ("avoided_output_tokens", "int?"),
        ("avoided_usage", "string"),  # JSON: what a cache hit echoed, by bucket and meter; '' where it is none
        ("usage_raw", "string"),
        ("price_status", "string"),  # priced, unpriced, free (cache hit, denied), no_usage (missing or orphan)
        ("currency", "string"),
        ("rate_card_id", "string"),
        ("rate_card_hash", "string"),
        ("plan_id", "string"),
        ("retry_rule", "string"),
        ("retry_cost_centre", "string"),  # bears what final_only absorbs
        ("list_cost", "pico?"),
        ("provider_cost", "pico?"),
        ("token_cost", "pico?"),
        ("model_cost", "pico?"),
        ("policy_cost", "pico?"),
        ("markup", "pico?"),
        ("cache_price", "pico?"),
        ("absorbed", "pico?"),
        ("absorbed_to", "string"),
        ("charge", "pico?"),
        ("avoided_provider_cost", "pico?"),
        ("avoided_charge", "pico?"),
        ("fresh", "bool"),
        ("window_tokens", "int"),
        ("window_cost", "pico"),
        *_ORIGIN,
    ),
    "policy_facts": (
        ("posted_hour", "time"),
        ("gateway_id", "string"),  # whose request was judged: subject_gateway_id, else the sender
        ("decision_id", "string"),
        ("content_hash", "string"),
        ("version", "u64"),
        ("usage_hour", "time"),
        ("request_id", "string"),
        ("attempt", "u16"),
        ("request_started_at", "time"),
        ("occurred_at", "time"),
        ("recorded_at", "time"),
        ("sender_gateway_id", "string"),
        ("gateway_kind", "string"),
        *_WHO,
        ("policy_id", "string"),
        ("policy_version", "string"),
        ("outcome", "string"),
        ("latency_us", "int?"),
        ("units", "int?"),
        ("scanned_tokens", "int?"),
        ("evaluator_request_id", "string"),
        ("price_status", "string"),  # priced, unpriced, free (priced by its evaluator)
        ("currency", "string"),
        ("prices_id", "string"),
        ("billed_by", "string"),  # internal, or the provider whose invoice has it; '' where nothing priced it
        ("plan_id", "string"),
        ("list_cost", "pico?"),  # 0 where the platform bills it itself
        ("provider_cost", "pico?"),  # likewise
        ("policy_cost", "pico?"),
        ("markup", "pico?"),
        ("absorbed", "pico?"),
        ("absorbed_to", "string"),
        ("charge", "pico?"),
        ("fresh", "bool"),
        ("window_cost", "pico"),
        *_ORIGIN,
    ),
    "usage_windows": (
        ("window_start", "time"),
        ("gateway_id", "string"),
        ("tenant_id", "string"),
        ("app_id", "string"),
        ("workload_id", "string"),
        ("provider", "string"),
        ("model", "string"),
        ("purpose", "string"),
        ("evidence_grade", "string"),
        ("usage_source", "string"),  # '' for policy decisions
        ("policy_id", "string"),  # '' for usage
        ("outcome", "string"),  # status of usage, outcome of decisions
        ("currency", "string"),
        ("topic", "string"),
        ("partition", "int"),
        ("slice", "time"),  # minute of log time
        ("revision", "int"),  # offset of the record that changed it last
        ("attempts", "int"),
        ("decisions", "int"),
        ("input_tokens", "int"),
        ("cache_read_tokens", "int"),  # of which
        ("output_tokens", "int"),
        ("reasoning_tokens", "int"),  # of which
        ("unpriced_tokens", "int"),  # of which
        ("latency_us", "int"),
        ("list_cost", "pico"),
        ("provider_cost", "pico"),
        ("token_cost", "pico"),
        ("model_cost", "pico"),
        ("policy_cost", "pico"),
        ("markup", "pico"),
        ("cache_price", "pico"),
        ("charge", "pico"),
    ),
    "evidence": (
        ("topic", "string"),
        ("partition", "int"),
        ("offset", "int"),
        ("event_index", "int"),
        ("gateway_id", "string"),  # who says so
        ("gateway_kind", "string"),
        ("evidence_grade", "string"),  # C
        ("reason", "string"),  # corroborating: the gateway never charges; authority: another one meters this route
        ("authority_gateway_id", "string"),  # which one; '' of a corroborating gateway
        ("kind", "string"),  # REQUEST, RESPONSE, POLICY
        ("request_id", "string"),  # of the gateway that says so
        ("attempt", "u16"),
        ("usage_revision", "u8"),
        ("request_started_at", "time"),
        ("occurred_at", "time"),
        ("recorded_at", "time"),
        ("status", "string"),  # of a RESPONSE
        ("delivered", "bool?"),
        ("http_status", "int?"),
        ("finish_reason", "string"),
        ("provider_request_id", "string"),
        ("trace_id", "string"),
        ("idempotency_key", "string"),
        ("client_request_id", "string"),
        ("client_network", "string"),
        ("parent_request_id", "string"),
        ("tenant_id", "string"),
        ("app_id", "string"),
        ("workload_id", "string"),
        ("credential_fingerprint", "string"),
        ("end_user", "string"),
        ("identity_source", "string"),
        ("provider", "string"),
        ("model", "string"),
        ("served_model", "string"),
        ("operation", "string"),
        ("stream", "bool?"),
        ("region", "string"),
        ("service_tier", "string"),
        ("workload_class", "string"),
        ("purpose", "string"),
        ("route", "string"),
        ("content_digest", "string"),
        ("gateway_cache", "string"),
        ("latency_us", "int?"),
        ("ttft_us", "int?"),
        ("usage_source", "string"),
        ("usage_consistency", "string"),
        *((bucket, "int?") for bucket in BUCKETS),
        *((meter, "int?") for meter in METERS),
        ("usage_raw", "string"),
        ("decision_id", "string"),
        ("subject_gateway_id", "string"),
        ("policy_id", "string"),
        ("policy_version", "string"),
        ("outcome", "string"),
        ("units", "int?"),
        ("evaluator_request_id", "string"),
        ("content_hash", "string"),  # of the event, lower-case hex
        ("kid", "string"),
        ("epoch", "string"),
        ("sequence", "int"),
        ("metadata_offset", "int"),
        ("fold_release", "u16"),
    ),
    "exceptions": (
        ("topic", "string"),
        ("partition", "int"),
        ("offset", "int"),
        ("event_index", "int"),
        ("kind", "string"),  # conflict, start_mismatch, unpriced, usage_inconsistent, budget_crossed…
        ("gateway_id", "string"),
        ("request_id", "string"),
        ("attempt", "u16"),
        ("recorded_at", "time"),
        ("detail", "string"),  # JSON; of a conflict: `differs`, a list of {field, first, second}
        ("raw", "bytes"),  # the record's value
        ("first_offset", "int?"),  # of a conflict: where the copy is that came first
        ("first_raw", "bytes"),  # of a conflict: that record's value, so that both copies stay as bytes
    ),
    "quarantine": (
        ("topic", "string"),
        ("partition", "int"),
        ("offset", "int"),
        ("event_index", "int"),  # -1: the whole record
        ("reason", "string"),
        ("detail", "string"),
        ("gateway_id", "string"),  # '' where not authenticated
        ("recorded_at", "time"),
        ("key", "bytes"),
        ("headers", "string"),  # JSON: list of [name, hex value]
        ("record_digest", "string"),  # BLAKE2b-256 of the record's value, hex
        ("claimed_gateway_id", "string"),  # what the record says, authentic or not; '' where it could not be read
        ("epoch", "string"),  # likewise
        ("first_sequence", "int"),  # likewise; of an event its own sequence
        ("next_sequence", "int"),  # equal to first_sequence where nothing could be read
        ("raw", "bytes"),  # the whole record's value; in the row of the record's lowest event_index only
    ),
    "gateway_epochs": (
        ("gateway_id", "string"),
        ("epoch", "string"),
        ("topic", "string"),
        ("partition", "int"),
        ("first_sequence", "int"),  # received [first_sequence, next_sequence)
        ("next_sequence", "int"),
        ("heartbeat_sequence", "int"),  # highest next sequence that a record announced
        ("emitted", "int"),
        ("spooled", "int"),
        ("dropped", "int"),
        ("closed", "bool"),
        ("recorded_at", "time"),
        ("first_offset", "int"),  # of the record with which the run of sequences begins
        ("content_hashes", "bytes"),  # of the events in order of sequence, 16 bytes each
    ),
    "ingest_batches": (
        ("topic", "string"),
        ("partition", "int"),
        ("first_offset", "int"),
        ("next_offset", "int"),
        ("replay_from", "int"),
        ("state", "bytes"),  # msgpack: scalars and epochs as at replay_from, decisions in [replay_from, next_offset)
        ("log_time", "time"),  # at next_offset
        ("posting_floor", "time"),  # at next_offset
        ("metadata_offset", "int"),  # at next_offset
        ("last_digest", "string"),  # BLAKE2b-128 of the last record's timestamp, key, value and headers
        ("partitions", "int"),
        ("fold_release", "u16"),
        ("records", "int"),  # running totals since the partition's first offset, from here on
        ("records_skipped", "int"),  # offsets of gaps that an operator accepted: below next_offset, in no other total
        ("records_batches", "int"),
        ("records_operator", "int"),
        ("records_quarantined", "int"),
        ("events_received", "int"),
        ("events_admitted", "int"),
        ("events_duplicate", "int"),
        ("events_conflict", "int"),
        ("events_quarantined", "int"),
        ("events_corroborating", "int"),
        ("requests", "int"),
        ("responses_fresh", "int"),
        ("responses_late", "int"),
        ("decisions", "int"),
        ("orphans", "int"),
        ("worker", "string"),
        ("written_at", "time"),
    ),
    "attestations": (
        ("gateway_id", "string"),
        ("epoch", "string"),
        ("topic", "string"),
        ("partition", "int"),
        ("from_sequence", "int"),
        ("to_sequence", "int"),
        ("kid", "string"),
        ("attestation", "bytes"),  # the signed bytes: a single-object Attestation
        ("signature", "bytes"),
        ("offset", "int"),
        ("recorded_at", "time"),
    ),
    "quarantine_discards": (
        ("topic", "string"),
        ("partition", "int"),
        ("offset", "int"),  # of the quarantined record
        ("event_index", "int"),  # -1: the whole record
        ("gateway_id", "string"),
        ("epoch", "string"),
        ("first_sequence", "int"),
        ("next_sequence", "int"),
        ("reason", "string"),
        ("kid", "string"),  # operator
        ("discard_offset", "int"),  # of the operator's record
        ("recorded_at", "time"),
    ),
    "commits": (
        ("run_id", "string"),
        ("version", "u64"),  # complement of the offset: the first COMMIT of a run counts
        ("rows_digest", "string"),
        ("entries", "int"),
        ("cause", "string"),
        ("reason", "string"),
        ("posted_hour", "time"),
        ("kid", "string"),
        ("topic", "string"),
        ("partition", "int"),
        ("offset", "int"),
        ("recorded_at", "time"),
    ),
    "operator_log": (
        ("topic", "string"),  # where the signed record is: events, metadata or seals
        ("partition", "int"),
        ("offset", "int"),
        ("at", "time"),
        ("kid", "string"),  # who
        ("act", "string"),  # control, discard, admit, commit, close_period, accept_gap, or a kind of metadata
        ("subject", "string"),  # id of what it is about
        ("reason", "string"),
        ("detail", "string"),  # JSON of the whole record
    ),
    "corrections": (
        ("run_id", "string"),
        ("entry", "int"),
        ("kind", "string"),  # replace, free
        ("target", "string"),  # usage, decision; '' for free
        ("gateway_id", "string"),
        ("request_id", "string"),  # of a decision its decision_id
        ("attempt", "u16"),
        ("response_hash", "string"),
        ("usage_hour", "time"),
        ("tenant_id", "string?"),  # null leaves what the target says
        ("app_id", "string?"),
        ("workload_id", "string?"),
        ("cost_centre", "string?"),
        ("business_unit", "string?"),
        ("organisation", "string?"),
        ("currency", "string"),
        ("rate_card_id", "string"),
        ("plan_id", "string"),
        ("list_cost", "pico?"),
        ("provider_cost", "pico?"),
        ("token_cost", "pico?"),
        ("model_cost", "pico?"),
        ("policy_cost", "pico?"),
        ("markup", "pico?"),
        ("cache_price", "pico?"),
        ("charge", "pico?"),
        ("avoided_provider_cost", "pico?"),
        ("avoided_charge", "pico?"),
        ("absorbed", "pico?"),
        ("absorbed_to", "string"),
        ("price_status", "string"),
        ("cause", "string"),  # reprice, manual, reorganisation, reconciliation
        ("reason", "string"),
        ("evidence_place", "string"),  # of an entry of its own: the evidence that it charges; '' for none
        ("retry_rule", "string"),  # of the plan that a later attribution gave; '' leaves the fact's
    ),
    "ledger": (
        ("seal_id", "string"),
        ("entry", "int"),  # number in the seal, from 0
        ("posted_hour", "time"),  # of the seal
        ("usage_hour", "time"),
        ("usage_period", "string"),  # YYYY-MM of usage_hour
        ("posting_period", "string"),  # usage_period, or the oldest open one where that is closed
        ("kind", "string"),  # usage, decision, correction (a free entry)
        ("cause", "string"),  # usage, late, revision, retry_rule, or the cause of a correction
        ("reverses", "string"),  # 'seal_id:entry' that this one takes back; '' where it adds
        ("reference", "string"),  # 'seal_id:entry' that it replaces, or the run of corrections; '' for first entries
        ("gateway_id", "string"),
        ("request_id", "string"),
        ("decision_id", "string"),
        ("attempt", "u16"),
        ("response_hash", "string"),
        ("tenant_id", "string"),
        ("app_id", "string"),
        ("workload_id", "string"),
        ("cost_centre", "string"),
        ("business_unit", "string"),
        ("organisation", "string"),
        ("evidence_grade", "string"),
        ("attribution", "string"),
        ("provider", "string"),
        ("model", "string"),
        ("served_model", "string"),
        ("purpose", "string"),
        ("status", "string"),
        ("attempt_role", "string"),
        ("usage_source", "string"),
        ("usage_consistency", "string"),
        ("gateway_cache", "string"),
        ("latency_us", "int?"),
        ("latency_class", "string"),
        ("policy_id", "string"),
        ("policy_version", "string"),
        ("outcome", "string"),
        *((bucket, "int?") for bucket in BUCKETS),
        ("input_tokens", "int"),
        ("output_tokens", "int"),
        ("avoided_input_tokens", "int?"),
        ("avoided_output_tokens", "int?"),
        *((meter, "int?") for meter in METERS),
        ("price_status", "string"),
        ("currency", "string"),
        ("rate_card_id", "string"),
        ("plan_id", "string"),
        ("list_cost", "pico?"),
        ("provider_cost", "pico?"),
        ("token_cost", "pico?"),
        ("model_cost", "pico?"),
        ("policy_cost", "pico?"),
        ("markup", "pico?"),
        ("cache_price", "pico?"),
        ("charge", "pico?"),
        ("avoided_provider_cost", "pico?"),
        ("avoided_charge", "pico?"),
        ("absorbed", "pico?"),
        ("absorbed_to", "string"),
        ("retry_cost", "pico?"),
        ("reason", "string"),
    ),
    "seal_leaves": (
        ("seal_id", "string"),
        ("posted_hour", "time"),
        ("leaf_index", "int"),
        ("kind", "string"),  # usage, decision, correction
        ("gateway_id", "string"),
        ("request_id", "string"),  # of a decision its decision_id, of a correction its run
        ("attempt", "int"),  # of a correction its entry
        ("hash", "string"),  # response_hash, content_hash; '' for corrections
        ("leaf", "bytes"),  # 32 bytes: BLAKE2b-256 of 00 and the leaf's Avro
    ),
    "seals": (
        ("number", "int"),
        ("seal_id", "string"),
        ("previous", "string"),
        ("posted_hour", "time"),
        ("leaves", "int"),
        ("leaves_root", "string"),
        ("entries", "int"),
        ("entries_root", "string"),
        ("open_period", "string"),
        ("kid", "string"),
        ("value", "bytes"),  # the whole record, as signed
        ("signature", "bytes"),
        ("offset", "int"),
        ("sealed_at", "time"),
    ),
    "closed_periods": (
        ("period", "string"),
        ("after_seal", "int"),
        ("open_points", "string"),  # JSON
        ("kid", "string"),
        ("reason", "string"),
        ("offset", "int"),
        ("closed_at", "time"),
    ),
}


def column_names(table: str) -> tuple[str, ...]:
    """Names of a table's columns in insert order. Raises `KeyError` for an unknown table."""
    return tuple(name for name, _ in TABLES[table])
