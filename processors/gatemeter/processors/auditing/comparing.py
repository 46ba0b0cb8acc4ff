"""Rows that a fold gives against rows that a table holds, column by column by key, block by block of the log.

What a block leaves open is kept: a row that a later record may still replace (`paired`, a window of the running slice),
and a row of the table that a later record may still give (an orphan). What is open at the end differs. A folded row
does not differ where the table rightly kept the one of an earlier record under its key: the first copy wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
import pyarrow as pa

from gatemeter.schemas import codec
from gatemeter.schemas.tables import column_names
from gatemeter.sinks.arrow import arrow_schema

SHOWN_CHARACTERS: Final = 80


@dataclass(frozen=True, slots=True)
class Kept:
    """How a table keeps its rows. `version`: of equal keys the greatest stays; '' where equal keys are equal rows.

    `place`: the column with the offset of the record a row is of. `lookup`: a column that finds a row again, whatever
    else was changed in it; `anywhere`: in other partitions too. `of_metadata`: its rows are about records of the
    metadata topic, which a CONTROL put in force.
    """

    table: str
    key: tuple[str, ...]
    version: str
    place: str
    lookup: str
    noun: str
    anywhere: bool = False
    of_metadata: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of its frames."""
        return SEQUENCE_COLUMNS if self.table == "gateway_epochs" else column_names(self.table)

    @property
    def contents(self) -> tuple[str, ...]:
        """The columns that are compared beside the key."""
        return tuple(name for name in self.columns if name not in (*self.key, "run_offset"))

    def frame(self, rows: pa.Table) -> pl.DataFrame:
        """Rows of a fold, or of a query that gave text as bytes, as a frame of `columns`."""
        wanted = pl.DataFrame(pl.from_arrow(arrow_schema(self.table).empty_table())).schema
        frame = pl.DataFrame(pl.from_arrow(rows))
        typed = frame.select(
            pl.col(name) if frame.schema[name] == wanted[name] else pl.col(name).cast(wanted[name])
            for name in column_names(self.table)
        )
        return _sequences(typed) if self.table == "gateway_epochs" else typed


SEQUENCE_COLUMNS: Final = ("gateway_id", "epoch", "sequence", "content_hash", "run_offset")
_WINDOW: Final = column_names("usage_windows")[: column_names("usage_windows").index("revision")]
_FACT: Final = ("posted_hour", "gateway_id", "request_id", "attempt", "response_hash")
_DECISION: Final = ("posted_hour", "gateway_id", "decision_id", "content_hash")
_EVENT: Final = ("topic", "partition", "offset", "event_index")
_ACT: Final = ("topic", "partition", "offset")
_STATEMENT: Final = ("gateway_id", "epoch", "topic", "partition", "from_sequence", "to_sequence", "offset")
KEPT: Final = (
    Kept("usage_facts", _FACT, "version", "offset", "request_id", "fact", anywhere=True),
    Kept("policy_facts", _DECISION, "version", "offset", "decision_id", "fact", anywhere=True),
    Kept("usage_windows", _WINDOW, "revision", "revision", "window_start", "window"),
    Kept("quarantine", _EVENT, "", "offset", "offset", "refusal"),
    Kept("evidence", _EVENT, "", "offset", "offset", "evidence"),
    Kept("exceptions", (*_EVENT, "kind"), "", "offset", "offset", "exception"),
    Kept("gateway_epochs", SEQUENCE_COLUMNS[:4], "", "run_offset", "epoch", "received event"),
    Kept("attestations", _STATEMENT, "", "offset", "offset", "attestation"),
    Kept("quarantine_discards", (*_EVENT, "discard_offset"), "", "discard_offset", "discard_offset", "discard"),
    Kept("commits", ("run_id",), "version", "offset", "run_id", "commit", anywhere=True),
    Kept("operator_log", _ACT, "", "offset", "offset", "act"),
    Kept("operator_log", _ACT, "", "offset", "offset", "act", of_metadata=True),
)
"""What one partition's fold writes and the audit compares, in the order in which differences are named."""


def _sequences(runs: pl.DataFrame) -> pl.DataFrame:
    """`gateway_epochs` event by event: where a run of sequences ends depends on how the log was fetched.

    The hashes are cut from one buffer: a run's own bytes are not repeated for each of its events.
    """
    length = codec.CONTENT_HASH_LENGTH
    runs = runs.filter(pl.col("next_sequence") > pl.col("first_sequence"))
    counts = (runs["next_sequence"] - runs["first_sequence"]).to_list()
    hashes = b"".join(
        held[: count * length].ljust(count * length, b"\0")
        for held, count in zip(runs["content_hashes"].to_list(), counts, strict=True)
    )
    cut = pa.Array.from_buffers(pa.binary(length), sum(counts), [None, pa.py_buffer(hashes)])
    events = runs.select(
        "gateway_id",
        "epoch",
        pl.int_ranges("first_sequence", "next_sequence").alias("sequence"),
        pl.col("first_offset").alias("run_offset"),
    )
    content = pl.Series("content_hash", cut.cast(pa.large_binary()), pl.Binary())
    return events.explode("sequence").with_columns(content).select(SEQUENCE_COLUMNS)


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that is not as folded. `how`: deleted, added, changed. `columns`: name → (as folded, as it is)."""

    kept: Kept
    how: str
    row: Mapping[str, Any]
    columns: Mapping[str, tuple[Any, Any]]

    @property
    def name(self) -> str:
        """The row for people."""
        names: tuple[str, ...] = (
            "gateway_id",
            "request_id",
            "decision_id",
            "attempt",
            "epoch",
            "sequence",
            "run_id",
            "act",
        )
        if self.kept.table == "usage_windows":
            names = ("window_start", *(name for name in self.kept.key if self.row[name] not in ("", 0)))
        named = [f"{name} {_shown(self.row[name])}" for name in dict.fromkeys(names) if name in self.row]
        return f"{self.kept.noun} {', '.join(named)} (offset {self.row[self.kept.place]})"

    @property
    def text(self) -> str:
        """The whole difference in one line."""
        if self.how == "changed":
            changes = [f"{name} {_shown(then)} → {_shown(now)}" for name, (then, now) in self.columns.items()]
            return f"{self.kept.table}: {self.name} was changed: {', '.join(changes)}"
        if self.how == "deleted":
            return f"{self.kept.table}: {self.name} is in the log and not in the table"
        return f"{self.kept.table}: {self.name} is in the table and not in the log"

    def as_json(self) -> dict[str, Any]:
        """The difference as plain data."""
        key = {name: str(self.row[name]) for name in self.kept.key if not isinstance(self.row[name], bytes)}
        changes = {name: [_shown(then), _shown(now)] for name, (then, now) in self.columns.items()}
        return {"table": self.kept.table, "how": self.how, "row": key, "changed": changes}


def _shown(value: Any) -> str:
    text = value.hex() if isinstance(value, bytes) else "null" if value is None else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


class Comparison:
    """One table of one partition. `expected`: folded rows that did not agree yet; `surplus`: rows nothing gave yet."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.agreed = 0
        empty = kept.frame(arrow_schema(kept.table).empty_table())
        self.expected = empty
        self.surplus = empty

    def collapsed(self, folded: Sequence[pa.Table]) -> pl.DataFrame:
        """Folded rows, those still open included, as the table keeps them."""
        kept = self.kept
        rows = pl.concat([self.expected, *(kept.frame(part) for part in folded)])
        if kept.version:
            rows = rows.sort(kept.version, maintain_order=True)
        return rows.unique(subset=list(kept.key), keep="last", maintain_order=True)

    def lowest(self, rows: pl.DataFrame, otherwise: int) -> int:
        """The lowest place among `rows`, at most `otherwise`."""
        lowest: Any = rows[self.kept.place].min()
        return otherwise if lowest is None else min(int(lowest), otherwise)

    def take(self, rows: pl.DataFrame, held: pl.DataFrame, new: pl.DataFrame) -> None:
        """`rows`: what `collapsed` gave. `held`: what the table has of them. `new`: rows of this block in the table."""
        key = list(self.kept.key)
        self.expected = self._differing(rows, held)
        agreed = rows.join(self.expected, on=key, how="anti")
        self.agreed += agreed.height
        self.surplus = pl.concat([self.surplus, new]).unique(subset=key, keep="last").join(agreed, on=key, how="anti")

    def pass_over_superseded(self, now: pl.DataFrame) -> None:
        """Forgets open rows whose key the table holds with the greater version of an earlier record that agreed."""
        kept = self.kept
        if not kept.version or not self.expected.height:
            return
        key = list(kept.key)
        rightly = now.join(self.surplus, on=key, how="anti").select(
            *key, pl.col(kept.version).alias("version_now"), pl.col(kept.place).alias("place_now")
        )
        both = self.expected.join(rightly, on=key, how="left")
        superseded = (pl.col("version_now") > pl.col(kept.version)) & (pl.col("place_now") < pl.col(kept.place))
        self.expected = both.filter(~superseded.fill_null(value=False)).select(self.expected.columns)

    def _differing(self, rows: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
        """Those of `rows` that the table does not hold, or holds with another content."""
        key = list(self.kept.key)
        if not self.kept.contents:
            return rows.join(held, on=key, how="anti")
        both = rows.join(held.with_columns(pl.lit(True).alias("is_held")), on=key, how="left", suffix="_held")
        equal = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_held")) for name in self.kept.contents)
        return both.filter(pl.col("is_held").is_null() | ~equal).select(rows.columns)

    def open_rows(self, limit: int) -> pl.DataFrame:
        """The first rows that do not agree: at most `limit` of each side."""
        return pl.concat([self._first(self.expected, limit), self._first(self.surplus, limit)])

    def _first(self, rows: pl.DataFrame, limit: int) -> pl.DataFrame:
        return rows.sort(self.kept.place, maintain_order=True).head(limit)

    def differences(self, now: pl.DataFrame, limit: int) -> list[Difference]:
        """The first differences that are left. `now`: rows of the table as they are now, found by `lookup`."""
        kept = self.kept
        held = {_key(row, kept.key): row for row in now.iter_rows(named=True)}
        only = self.surplus.join(self.expected, on=list(kept.key), how="anti")
        added = {
            _origin(row, kept): row
            for row in self._first(only, limit).iter_rows(named=True)
            if _key(row, kept.key) in held
        }
        found = []
        for row in self._differing(self._first(self.expected, limit), now).iter_rows(named=True):
            as_is = held.get(_key(row, kept.key)) or added.pop(_origin(row, kept), None)
            columns = (
                {} if as_is is None else {name: (row[name], as_is[name]) for name in row if row[name] != as_is[name]}
            )
            found.append(Difference(kept, "changed" if columns else "deleted", row, columns))
        found += [Difference(kept, "added", row, {}) for row in added.values()]
        return sorted(found, key=lambda difference: difference.row[kept.place])


def _key(row: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def _origin(row: Mapping[str, Any], kept: Kept) -> tuple[Any, ...]:
    """Which event a row is of: the same although its key was changed. Rows that do not say it have only their key."""
    return _key(row, ("topic", "partition", "offset", "event_index") if "event_index" in row else kept.key)
