"""Sealed hours computed again from the facts: leaves and ledger entries, against the tables and the seals' roots.

Three things must be the same for every seal: the tree of what the facts say now, the tree of what `seal_leaves` (or
`ledger`) says, and the root that was signed. Where they are not, the rows are held against each other and the first one
that differs is named: a fact that was changed, deleted or added since, or a leaf or an entry that was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from gatemeter.processors.auditing.chain import SealRow, read_seals
from gatemeter.processors.auditing.origins import RecordsOf
from gatemeter.processors.sealing.chain import Seal, seal_of
from gatemeter.processors.sealing.contents import Content, SealStopped, content_of
from gatemeter.processors.sealing.encoding import avro_bodies
from gatemeter.processors.sealing.hours import utc
from gatemeter.processors.sealing.leaves import LEAF_COLUMNS
from gatemeter.schemas import merkle
from gatemeter.schemas.codec import CodecError
from gatemeter.schemas.seals import leaf_fields
from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.reports.audit import Finding, listed, note, ok, wrong
from gatemeter.sinks.rows import query_rows

LEAVES: Final = "leaves"
LEDGER: Final = "ledger"
_LEAF_KEY: Final = ("kind", "gateway_id", "request_id", "attempt", "hash")
_ENTRY_FIELDS: Final = leaf_fields("entry")
_BEFORE: Final = """
SELECT 'usage_facts' AS name, count() AS found FROM usage_facts WHERE posted_hour < {first:DateTime64(6)}
UNION ALL SELECT 'policy_facts', count() FROM policy_facts WHERE posted_hour < {first:DateTime64(6)}
"""
_LOOSE: Final = """
SELECT count() AS found, uniqExact(seal_id) AS ids FROM ledger WHERE seal_id NOT IN (SELECT seal_id FROM seals)
"""


@dataclass
class SealedHours:
    """Both checks look at one computation of each hour. `records`: where Kafka is given, it names changed columns."""

    client: Client
    records: RecordsOf | None = None
    _found: dict[str, list[Finding]] | None = field(default=None, init=False)

    def leaves(self) -> Iterator[Finding]:
        """Facts against leaves against roots."""
        yield from self._look()[LEAVES]

    def ledger(self) -> Iterator[Finding]:
        """The ledger against what facts and earlier seals give, and against roots."""
        yield from self._look()[LEDGER]

    def _look(self) -> dict[str, list[Finding]]:
        if self._found is None:
            found: dict[str, list[Finding]] = {LEAVES: [], LEDGER: []}
            seals = read_seals(self.client)
            for row in seals:
                self._seal(row, found)
            self._outside(seals, found)
            for check, what in ((LEAVES, "leaves"), (LEDGER, "entries")):
                bad = {finding.scope for finding in found[check] if finding.result == "wrong"}
                good = len(seals) - len(bad)
                if good or not seals:
                    total = sum(int(row.columns[what]) for row in seals)
                    text = f"{total:,} {what}: facts, table and signed root agree" if seals else "nothing is sealed yet"
                    found[check].append(ok(check, f"{good:,} hours", text))
            self._found = found
        return self._found

    def _seal(self, row: SealRow, found: dict[str, list[Finding]]) -> None:
        try:
            seal = seal_of(row.record)
        except (CodecError, KeyError, TypeError) as error:
            for check in (LEAVES, LEDGER):
                found[check].append(wrong(check, row.name, f"the seal's record cannot be read: {error}"))
            return
        hour = _Hour(self.client, row.seal_id, seal, self.records)
        try:
            with content_of(self.client, seal.posted_hour_us, seal.open_period) as content:
                found[LEAVES] += hour.compare_leaves(content)
                found[LEDGER] += hour.compare_entries(content)
        except SealStopped as error:
            found[LEAVES] += hour.compare_leaves(None)
            found[LEDGER].append(wrong(LEDGER, hour.name, f"cannot be computed again: {error}"))

    def _outside(self, seals: list[SealRow], found: dict[str, list[Finding]]) -> None:
        """What no seal speaks of although it should, or which speaks of no seal."""
        if seals:
            first = seals[0].columns["posted_hour"]
            for row in query_rows(self.client, "look for facts before the first seal", _BEFORE, {"first": first}):
                if row["found"]:
                    what = f"{row['found']:,} rows were posted before the first sealed hour, in no leaf"
                    found[LEAVES].append(wrong(LEAVES, row["name"], what))
        (loose,) = query_rows(self.client, "look for entries without a seal", _LOOSE)
        if loose["found"]:
            what = f"{loose['found']:,} staged rows of {loose['ids']} seals that are not canonical; no view counts them"
            found[LEDGER].append(note(LEDGER, "ledger", what))


class _Hour:
    """One seal: its tables, its roots, and what the facts give now."""

    def __init__(self, client: Client, seal_id: str, seal: Seal, records: RecordsOf | None) -> None:
        self._client, self._seal_id, self._seal, self._records = client, seal_id, seal, records
        self.name = f"seal {seal.number} ({utc(seal.posted_hour_us)})"

    def compare_leaves(self, content: Content | None) -> Iterator[Finding]:
        """`content`: None where it cannot be computed any more; then the table is held against the root alone."""
        rows = self._rows(LEAF_COLUMNS, "seal_leaves", "leaf_index")
        root = merkle.root_of(rows.column("leaf").to_pylist())
        table_good = (root, rows.num_rows) == (self._seal.leaves_root, self._seal.leaves)
        if content is None:
            if not table_good:
                yield wrong(LEAVES, self.name, "seal_leaves: its rows do not give the root that was signed")
            return
        facts_good = (content.leaves_root, content.leaves.rows) == (self._seal.leaves_root, self._seal.leaves)
        if table_good and facts_good:
            return
        held = _text_frame([rows.select(LEAF_COLUMNS)])
        found = _leaf_differences(held, _text_frame(list(content.leaves.blocks()), held))
        evidence = {"rows": listed(found), "number": len(found)}
        yield wrong(LEAVES, self.name, self._leaf_text(found, table_good=table_good, facts_good=facts_good), **evidence)

    def _leaf_text(self, found: list[dict[str, Any]], *, table_good: bool, facts_good: bool) -> str:
        if not found:
            return "the same rows are not in the order, or not the ones, of the root that was signed"
        first = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        if facts_good:
            how = {"deleted": "added", "added": "deleted", "changed": "changed"}[first["how"]]
            return f"seal_leaves: the leaf of {_leaf_name(first)} was {how}{more}; the facts are as sealed"
        columns = self._records.columns_of(first) if self._records and first["how"] == "changed" else ""
        too = "" if table_good else "; seal_leaves was changed too"
        return f"{_leaf_name(first)} was {first['how']} since it was sealed{columns}{more}{too}"

    def compare_entries(self, content: Content) -> Iterator[Finding]:
        """The ledger's rows against those that the facts and earlier seals give, and both against the root."""
        rows = self._rows(_ENTRY_FIELDS, "ledger", "entry")
        root = merkle.root_of(merkle.leaf_hash(body) for body in avro_bodies("LedgerEntry", rows).to_pylist())
        table_good = (root, rows.num_rows) == (self._seal.entries_root, self._seal.entries)
        facts_good = (content.entries_root, content.entries.rows) == (self._seal.entries_root, self._seal.entries)
        if table_good and facts_good:
            return
        held = _text_frame([rows])
        now = _text_frame([block.select(_ENTRY_FIELDS) for block in content.entries.blocks()], held)
        found = _entry_differences(*((held, now) if table_good else (now, held)))
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        if not found:
            text = "the same entries are not in the order, or not the ones, of the root that was signed"
        elif table_good:
            text = f"the facts no longer give what was sealed: {found[0]}{more}"
        else:
            text = f"ledger: {found[0]}{more}" + ("" if facts_good else "; facts were changed too")
        yield wrong(LEDGER, self.name, text, entries=listed(found), number=len(found))

    def _rows(self, names: tuple[str, ...], table: str, order: str) -> pa.Table:
        """Rows of the seal, each once however often they were staged, in order."""
        columns = ", ".join(f"`{name}`" for name in dict.fromkeys((*names, order)))
        query = f"SELECT DISTINCT {columns} FROM {table} WHERE seal_id = {{seal:String}} ORDER BY {order}"
        try:
            return self._client.query_arrow(query, {"seal": self._seal_id}, use_strings=False)
        except (*FAILURES, pa.ArrowException) as error:
            raise sink_error(f"read {table}", error) from error


def _text_frame(blocks: list[pa.Table], like: pl.DataFrame | None = None) -> pl.DataFrame:
    """Blocks as one frame, text as text. `like`: a frame of the same columns, for the types and for no blocks."""
    if not blocks:
        return (like if like is not None else pl.DataFrame()).clear()
    frame = pl.concat([pl.DataFrame(pl.from_arrow(block)) for block in blocks])
    if like is not None:
        return frame.cast({name: kind for name, kind in like.schema.items() if name in frame.columns})
    text = [name for name, kind in frame.schema.items() if kind == pl.Binary and name != "leaf"]
    return frame.cast(dict.fromkeys(text, pl.String()))


def _leaf_differences(sealed: pl.DataFrame, now: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows that are not in both, or with another leaf, in the order of leaves, by `how` they came from the first."""
    key = list(_LEAF_KEY)
    both = sealed.join(now, on=key, how="full", suffix="_now", coalesce=True, nulls_equal=True)
    how = (
        pl.when(pl.col("leaf_now").is_null())
        .then(pl.lit("deleted"))
        .when(pl.col("leaf").is_null())
        .then(pl.lit("added"))
        .otherwise(pl.lit("changed"))
    )
    different = both.filter(pl.col("leaf").ne_missing(pl.col("leaf_now"))).with_columns(how=how)
    return list(different.sort(key).select(*key, "how").iter_rows(named=True))


def _leaf_name(row: dict[str, Any]) -> str:
    if row["kind"] == "usage":
        return f"usage of gateway {row['gateway_id']}, request {row['request_id']}, attempt {row['attempt']}"
    if row["kind"] == "decision":
        return f"decision {row['request_id']} of gateway {row['gateway_id']}"
    return f"correction {row['request_id']}:{row['attempt']}"


def _entry_differences(expected: pl.DataFrame, found: pl.DataFrame) -> list[str]:
    """What the second frame has otherwise, entry by entry. An entry is known by its line: numbers shift."""
    key = ["kind", "gateway_id", "request_id", "decision_id", "attempt", "taken_back", "repeated"]
    left, right = (_keyed(frame) for frame in (expected, found))
    both = left.join(right, on=key, how="full", suffix="_is", coalesce=True, nulls_equal=True)
    compared = [name for name in expected.columns if name not in (*key, "entry")]
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_is")) for name in compared)
    different = both.filter(pl.col("entry").is_null() | pl.col("entry_is").is_null() | differs)
    texts = []
    for row in different.sort(pl.coalesce("entry", "entry_is")).iter_rows(named=True):
        what = row["decision_id"] or row["request_id"] or row["reference"]
        name = (
            f"{row['kind']} of {what}, attempt {row['attempt']}" if row["kind"] == "usage" else f"{row['kind']} {what}"
        )
        if row["entry_is"] is None:
            texts.append(f"entry {row['entry']} ({name}) is gone")
        elif row["entry"] is None:
            texts.append(f"entry {row['entry_is']} ({name}) was added")
        else:
            changes = [f"{n} {row[n]} → {row[f'{n}_is']}" for n in compared if row[n] != row[f"{n}_is"]]
            texts.append(f"entry {row['entry']} ({name}) was changed: {', '.join(changes)}")
    return texts


def _keyed(entries: pl.DataFrame) -> pl.DataFrame:
    line = ["kind", "gateway_id", "request_id", "decision_id", "attempt", "taken_back"]
    marked = entries.with_columns(taken_back=pl.col("reverses") != "")
    return marked.with_columns(repeated=pl.int_range(pl.len()).over(line))
