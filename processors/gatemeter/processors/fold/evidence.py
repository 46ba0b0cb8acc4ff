"""Evidence of grade C: events that are kept and matched, and never become facts.

Which they are is a function of the record and the view in force: all events of a batch whose sender signed that it is
telemetry, all events of a corroborating gateway, and the REQUESTs and RESPONSEs of a charging one on a route whose
authority at the request's start is another gateway. All events of a request state the same start, so under one view a
request is a fact or evidence as a whole. A POLICY of a charging gateway stays a fact: nobody else made that decision.
See docs/evidence.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from gatemeter.processors.fold import facts
from gatemeter.processors.fold.columns import Context, Events
from gatemeter.processors.fold.decoding import Ints
from gatemeter.processors.fold.facts import Source
from gatemeter.processors.fold.terms import Terms
from gatemeter.processors.fold.types import FOLD_RELEASE, Row
from gatemeter.processors.metadata.entries import TELEMETRY
from gatemeter.processors.metadata.views import View
from gatemeter.schemas.tables import BUCKETS, METERS, column_names

GRADE: Final = "C"
CORROBORATING: Final = "corroborating"
AUTHORITY: Final = "authority"
_TEXTS: Final = (
    *facts.WHO_TEXTS,
    *facts.TEXTS,
    *("status", "usage_source", "outcome"),
    *("decision_id", "subject_gateway_id", "policy_id", "policy_version", "evaluator_request_id"),
)
"""Text fields of an event; absent text is ''."""

_AS_THEY_ARE: Final = (
    *("kind", "request_id", "attempt", "usage_revision", "request_started_at", "occurred_at", "identity_source"),
    *("delivered", "http_status", "stream", "workload_class", "purpose", "gateway_cache", "latency_us", "ttft_us"),
    *BUCKETS,
    *METERS,
    "units",
)


class Standing(NamedTuple):
    """Why an event is evidence: `reason` is corroborating or authority, `authority_gateway_id` who makes the fact."""

    reason: str
    authority_gateway_id: str = ""


def may_be_evidence(view: View, gateway_kind: str) -> bool:
    """Whether any event of such a batch may be evidence: where not, none is looked at."""
    return view.makes_evidence or gateway_kind == TELEMETRY


def standing(view: View, source: Source, event: Mapping[str, Any]) -> Standing | None:
    """None where the event makes a fact."""
    gateway_id = source.gateway_id
    if source.gateway_kind == TELEMETRY or gateway_id in view.corroborating:
        return Standing(CORROBORATING)
    if event["kind"] == "POLICY" or gateway_id not in view.authorities:
        return None
    authority = view.authority(gateway_id, event["route"] or "", event["request_started_at"])
    return Standing(AUTHORITY, authority) if authority else None


def evidence_row(event: Mapping[str, Any], index: int, source: Source, view: View, why: Standing) -> Row:
    """One row of `evidence`: what the event says, and where it is."""
    return {
        **{name: event[name] or "" for name in _TEXTS},
        **{name: event[name] for name in _AS_THEY_ARE},
        **why._asdict(),
        "evidence_grade": GRADE,
        "gateway_id": source.gateway_id,
        "gateway_kind": source.gateway_kind,
        "recorded_at": source.recorded_at_us,
        "content_hash": event["content_hash"].hex(),
        **source.provenance(index, view),
    }


class Evident(NamedTuple):
    """Rows of events that are evidence, rising, and of each the authority ('' of a corroborating gateway's)."""

    rows: Ints
    authorities: pl.Series


def evident(view: View, terms: Terms, events: Events) -> Evident | None:
    """`standing` of many events; None where all of them make facts. Gateways are told apart record by record."""
    senders = events.records["gateway_id"]
    is_telemetry = (events.records["gateway_kind"] == TELEMETRY).to_numpy()
    if not (view.makes_evidence or is_telemetry.any()):
        return None
    corroborates = senders.is_in(list(view.corroborating)).to_numpy() | is_telemetry
    is_dated = senders.is_in(list(view.authorities)).to_numpy() & ~corroborates
    authorities = np.full(len(events.record_of), "", dtype=object)
    if is_dated.any():
        asked = np.flatnonzero(is_dated[events.record_of] & (events.frame["kind"] != "POLICY").to_numpy())
        frame = events.frame[asked].select("gateway_id", pl.col("route").fill_null(""), "request_started_at")
        authorities[asked] = terms.authorities(frame, terms.eras(frame["request_started_at"].to_numpy()))
    rows = np.flatnonzero(corroborates[events.record_of] | (authorities != ""))
    return Evident(rows, pl.Series(authorities[rows], dtype=pl.String)) if len(rows) else None


def evidence_rows(context: Context, events: Events, authorities: pl.Series) -> pl.DataFrame:
    """All columns of `evidence` for events that are."""
    frame = pl.concat([events.frame.drop("gateway_id"), events.source()], how="horizontal").with_columns(
        pl.col(*_TEXTS).fill_null(""),
        pl.col("content_hash").bin.encode("hex"),
        authorities.alias("authority_gateway_id"),
        pl.lit(GRADE).alias("evidence_grade"),
        pl.Series("event_index", events.index_of),
        (pl.col("first_sequence") + pl.Series(events.index_of)).alias("sequence"),
        pl.lit(context.topic).alias("topic"),
        pl.lit(context.partition, pl.Int64).alias("partition"),
        pl.lit(context.view.offset, pl.Int64).alias("metadata_offset"),
        pl.lit(FOLD_RELEASE, pl.UInt16).alias("fold_release"),
    )
    by_gateway = pl.col("authority_gateway_id") == ""
    reason = pl.when(by_gateway).then(pl.lit(CORROBORATING)).otherwise(pl.lit(AUTHORITY)).alias("reason")
    return frame.with_columns(reason).select(column_names("evidence"))
