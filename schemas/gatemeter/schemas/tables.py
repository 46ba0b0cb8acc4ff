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
        ("content_digest", "string"),
        ("gateway_cache", "string"),
        ("latency_us", "int?"),
        ("ttft_us", "int?"),
        ("latency_class", "string"),  # fast, normal, slow, very_slow, unknown
        ("latency_thresholds_version", "u16"),
        ("usage_revision", "u8"),
        ("usage_source", "string"),
        *((bucket, "int?") for bucket in BUCKETS),
        *((meter, "int?") for meter in METERS),
        ("avoided_input_tokens", "int?"),
        ("avoided_output_tokens", "int?"),
        ("usage_raw", "string"),
        ("price_status", "string"),  # priced, unpriced, free (cache hit, denied), no_usage (missing or orphan)
        ("currency", "string"),
        ("rate_card_id", "string"),
        ("rate_card_hash", "string"),
        ("plan_id", "string"),
        ("retry_rule", "string"),
        ("list_cost", "pico?"),
        ("provider_cost", "pico?"),
        ("token_cost", "pico?"),
        ("model_cost", "pico?"),
        ("policy_cost", "pico?"),
        ("markup", "pico?"),
        ("absorbed", "pico?"),
        ("absorbed_to", "string"),
        ("charge", "pico?"),
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
        ("evaluator_request_id", "string"),
        ("price_status", "string"),  # priced, unpriced, free (priced by its evaluator)
        ("currency", "string"),
        ("prices_id", "string"),
        ("plan_id", "string"),
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
        ("charge", "pico"),
    ),
    "exceptions": (
        ("topic", "string"),
        ("partition", "int"),
        ("offset", "int"),
        ("event_index", "int"),
        ("kind", "string"),  # conflict, start_mismatch
        ("gateway_id", "string"),
        ("request_id", "string"),
        ("attempt", "u16"),
        ("recorded_at", "time"),
        ("detail", "string"),  # JSON
        ("raw", "bytes"),  # the record's value: both copies stay as bytes
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
}


def column_names(table: str) -> tuple[str, ...]:
    """Names of a table's columns in insert order. Raises `KeyError` for an unknown table."""
    return tuple(name for name, _ in TABLES[table])
