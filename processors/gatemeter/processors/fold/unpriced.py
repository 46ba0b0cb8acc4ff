"""Exceptions for what has no price: one row a record and thing that is lacking, with how often and how many tokens.

`unpriced`: usage or a decision without amounts. `avoided_unpriced`: a free hit of the gateway's cache, of which nobody
can say what it saved; it stays free.

A record and what is admitted of it are the same however the log is fetched, so its rows are a pure function of the log;
a flood of unpriced usage makes few rows. The row names the first such event of its record. See docs/fold.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from gatemeter.processors.fold.types import Row, Rows
from gatemeter.processors.metadata.cards import RateKey
from gatemeter.processors.metadata.views import View
from gatemeter.processors.pricing.columns import Ints
from gatemeter.processors.pricing.components import DECISION_QUANTITIES, quantities_of
from gatemeter.processors.pricing.unpriced import (
    QUANTITIES,
    Lack,
    input_tokens_of,
    used_of,
    why_no_policy_price,
    why_unpriced,
)
from gatemeter.schemas.tables import INPUT_BUCKETS, OUTPUT_BUCKETS

UNPRICED: Final = "unpriced"
AVOIDED: Final = "avoided_unpriced"
_NO_ECHO: Final = ("", "{}")
_PLACE: Final = ("provider", "model", "served_model", "service_tier", "workload_class", "region")
_ECHO: Final = pl.Struct(dict.fromkeys(QUANTITIES, pl.Int64()))
_USED: Final = pl.sum_horizontal(
    (pl.col(name).fill_null(0) > 0).cast(pl.Int64) * (1 << at) for at, name in enumerate(QUANTITIES)
)
TOKENS_IN: Final = pl.sum_horizontal(pl.col(name).fill_null(0) for name in INPUT_BUCKETS)
TOKENS_OUT: Final = pl.sum_horizontal(pl.col(name).fill_null(0) for name in OUTPUT_BUCKETS)
FIRST: Final = ("event_index", "gateway_id", "request_id", "attempt", "recorded_at", "request_started_at")


class What(NamedTuple):
    """What is lacking: of usage its place and `Lack`, of decisions the policy and why. `event`: RESPONSE or POLICY."""

    kind: str
    event: str
    place: tuple[str, ...]
    lack: Lack


class First(NamedTuple):
    """The first event of its record to which it happened; times in microseconds."""

    event_index: int
    gateway_id: str
    request_id: str
    attempt: int
    recorded_at: int
    request_started_at: int


@dataclass(slots=True)
class Lacking:
    """How much of a record lacks the same."""

    first: First
    events: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


def lack_of(fact: Mapping[str, Any]) -> str:
    """The kind of exception that a usage fact makes; '' where all of it has a price."""
    if fact["price_status"] == UNPRICED:
        return UNPRICED
    return AVOIDED if fact["avoided_usage"] not in _NO_ECHO and fact["avoided_charge"] is None else ""


def lacking_usage(facts: pl.DataFrame) -> pl.DataFrame:
    """The usage facts of many that lack a price, with the column `lack`; where all have one little is looked at."""
    hits = (facts["avoided_usage"] != "").any()
    if not (facts["charge"].null_count() or hits):
        return facts.clear().with_columns(lack=pl.lit(UNPRICED))
    unpriced = pl.col("price_status") == UNPRICED
    avoided = ~pl.col("avoided_usage").is_in(_NO_ECHO) & pl.col("avoided_charge").is_null()
    kind = pl.when(unpriced).then(pl.lit(UNPRICED)).otherwise(pl.lit(AVOIDED))
    found = facts.filter(unpriced | avoided).with_columns(kind.alias("lack"))
    if not hits or not found.height:
        return found
    echo = found["avoided_usage"].replace("", "{}").str.json_decode(_ECHO).struct.unnest()
    return found.with_columns(found[name].fill_null(echo[name]) for name in QUANTITIES)


@dataclass(slots=True)
class UnpricedBook:
    """What was unpriced since the last call of `into`, by offset and what is lacking."""

    _found: dict[tuple[int, What], Lacking] = field(default_factory=dict)

    def usage(self, fact: Mapping[str, Any], view: View) -> None:
        """One usage fact that lacks a price."""
        quantities = quantities_of(fact)
        used, tokens = used_of(quantities), input_tokens_of(quantities)
        out = sum(quantities[name] or 0 for name in OUTPUT_BUCKETS)
        what = _usage_lack(fact, lack_of(fact), used, tokens, view)
        self._add(fact["offset"], what, First(*(fact[name] for name in FIRST)), (1, tokens, out))

    def decision(self, fact: Mapping[str, Any], view: View) -> None:
        """One unpriced decision."""
        self._add(fact["offset"], _decision_lack(fact, view), _decision_first(fact), (1, 0, 0))

    def usages(self, facts: pl.DataFrame, eras: Ints, view: View) -> None:
        """Rows of `lacking_usage` in log order, those that lack the same together; `eras`: of each its start's."""
        bounds = np.array(view.context_bounds, np.int64)
        facts = facts.with_columns(
            _USED.alias("used"), TOKENS_IN.alias("in"), TOKENS_OUT.alias("out"), pl.Series("era", eras)
        )
        context = pl.Series("context", np.searchsorted(bounds, facts["in"].to_numpy(), side="left"))
        names = ("offset", "lack", *_PLACE, "era", "used", "context")
        sums = (pl.len(), pl.col("in").sum().alias("in_sum"), pl.col("out").sum().alias("out_sum"))
        grouped = facts.with_columns(context).group_by(names, maintain_order=True)
        for row in grouped.agg(pl.col(*FIRST, "in").first(), *sums).iter_rows(named=True):
            used = tuple(name for at, name in enumerate(QUANTITIES) if row["used"] >> at & 1)
            what = _usage_lack(row, row["lack"], used, row["in"], view)
            counts = row["len"], row["in_sum"], row["out_sum"]
            self._add(row["offset"], what, First(*(row[name] for name in FIRST)), counts)

    def decisions(self, facts: pl.DataFrame, eras: Ints, view: View) -> None:
        """Unpriced decisions in log order, likewise."""
        stated = [pl.col(name).is_not_null().alias(f"has_{name}") for name in DECISION_QUANTITIES]
        facts = facts.with_columns(*stated, pl.Series("era", eras))
        alike = ("offset", "policy_id", "era", *(f"has_{name}" for name in DECISION_QUANTITIES))
        grouped = facts.group_by(alike, maintain_order=True)
        firsts = pl.col(*FIRST, "sender_gateway_id", *DECISION_QUANTITIES).first()
        for row in grouped.agg(firsts, pl.len()).iter_rows(named=True):
            self._add(row["offset"], _decision_lack(row, view), _decision_first(row), (row["len"], 0, 0))

    def _add(self, offset: int, what: What, first: First, counts: tuple[int, int, int]) -> None:
        entry = self._found.get((offset, what))
        if entry is None:
            entry = self._found[offset, what] = Lacking(first)
        entry.first = min(entry.first, first)
        entry.events += counts[0]
        entry.input_tokens += counts[1]
        entry.output_tokens += counts[2]

    def into(self, rows: Rows, topic: str, partition: int) -> None:
        """Adds the rows of `exceptions`, and forgets them."""
        for (offset, what), entry in sorted(self._found.items(), key=lambda item: (item[0][0], item[1].first)):
            rows.add("exceptions", _row(topic, partition, offset, what, entry))
        self._found = {}


def _usage_lack(fact: Mapping[str, Any], kind: str, used: Sequence[str], input_tokens: int, view: View) -> What:
    key: RateKey = (
        fact["provider"],
        fact["served_model"] or fact["model"],
        fact["service_tier"],
        fact["workload_class"],
        fact["region"],
    )
    lack = why_unpriced(view, key, used, input_tokens, fact["request_started_at"])
    if lack is None:
        raise AssertionError(f"request {fact['request_id']} is unpriced but view {view.offset} prices it")
    return What(kind, "RESPONSE", tuple(fact[name] for name in _PLACE), lack)


def _decision_lack(fact: Mapping[str, Any], view: View) -> What:
    return What(UNPRICED, "POLICY", (fact["policy_id"],), Lack(why_no_policy_price(view, fact)))


def _decision_first(fact: Mapping[str, Any]) -> First:
    """The row is about the gateway that sent the record, as all exceptions are."""
    return First(*(fact["sender_gateway_id" if name == "gateway_id" else name] for name in FIRST))


def _row(topic: str, partition: int, offset: int, what: What, entry: Lacking) -> Row:
    place = dict(zip(_PLACE if what.event == "RESPONSE" else ("policy_id",), what.place, strict=True))
    detail: dict[str, Any] = {"event": what.event, "reason": what.lack.reason, "events": entry.events, **place}
    if what.event == "RESPONSE":
        detail |= {"missing": what.lack.missing, "input_tokens_above": what.lack.input_tokens_above}
        detail |= {"input_tokens": entry.input_tokens, "output_tokens": entry.output_tokens}
    detail["request_started_at_us"] = entry.first.request_started_at
    return exception_row((topic, partition, offset), what.kind, entry.first, detail)


def exception_row(place: tuple[str, int, int], kind: str, first: First, detail: Row) -> Row:
    """A row of `exceptions` about events of one record (topic, partition, offset); it names the first of them."""
    topic, partition, offset = place
    return {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "event_index": first.event_index,
        "kind": kind,
        "gateway_id": first.gateway_id,
        "request_id": first.request_id,
        "attempt": first.attempt,
        "recorded_at": first.recorded_at,
        "detail": json.dumps(detail, sort_keys=True),
        "raw": b"",
        "first_offset": None,
        "first_raw": b"",
    }
