"""Facts against the log: each partition is folded again, as far as its log is retained, and compared with the tables.

The fold is a pure function of the log, so every row below the newest checkpoint must be there as the fold gives it now,
and no other. It begins at offset 0, or at the oldest checkpoint whose state the log still reaches; what is below that
can no longer be compared. Blocks of rows bound the memory. Secrets and operators' public keys are needed for it: the
MACs of gateways are verified again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import polars as pl
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from gatemeter.processors.admission import Trust
from gatemeter.processors.auditing.announced import Announcements
from gatemeter.processors.auditing.comparing import KEPT, Comparison, Difference, Kept
from gatemeter.processors.auditing.logs import Kafka, LogReader
from gatemeter.processors.fold.state import Totals
from gatemeter.processors.fold.types import FoldStopped, LogRecord
from gatemeter.processors.metadata.log import MetadataLog, MetadataProblem
from gatemeter.processors.metadata.reading import MetadataUnreachable, read_metadata
from gatemeter.processors.partition import PartitionFold
from gatemeter.schemas.tables import column_names
from gatemeter.sinks.checkpoints import checkpoint_row
from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.reports.audit import LISTED, LOOKS, PAUSE, CannotCheck, Finding, listed, note, ok, wrong

CHECK: Final = "refold"
BLOCK_ROWS: Final = 200_000
"""Rows of a fold that are compared at once."""

BLOCK_BYTES: Final = 256 << 20
"""Bytes of records after which a block ends, whatever rows they gave."""

LOOKUP_ROWS: Final = 1_000
"""Rows that one query looks up by their keys."""

_TOTALS: Final = (*Totals.__dataclass_fields__, "log_time", "posting_floor", "metadata_offset", "last_digest")
"""Columns of a checkpoint that do not depend on where fetches were cut."""

_CHECKPOINT: Final = f"SELECT {', '.join(f'`{name}`' for name in column_names('ingest_batches'))} FROM ingest_batches"
_OF_PARTITION: Final = "topic = {topic:String} AND partition = {partition:Int64}"


@dataclass(frozen=True)
class Refold:
    """What a re-fold needs. `trust`: the gateways' secrets and the operators' public keys."""

    client: Client
    kafka: Kafka
    topic: str
    metadata_topic: str
    trust: Trust
    block_rows: int = BLOCK_ROWS

    def look(self) -> Iterator[Finding]:
        """One finding a table and partition that differs; one a partition of what agrees."""
        try:
            copy = read_metadata(
                self.kafka.bootstrap, self.trust.operator_keys, topic=self.metadata_topic, client=self.kafka.client
            )
            with LogReader(self.kafka) as reader, LogReader(self.kafka) as single:
                partitions = reader.partitions(self.topic)
                for partition in range(partitions):
                    fold = _Folding(copy.log, reader, single.record_at, partition, partitions)
                    yield from _Partition(self, fold).look()
        except (MetadataUnreachable, MetadataProblem) as error:
            raise CannotCheck(str(error)) from error

    def partition(self, metadata: MetadataLog, logs: Logs, partition: int, partitions: int) -> Iterator[Finding]:
        """The same of one partition whose log is read elsewhere."""
        return _Partition(self, _Folding(metadata, logs, logs.record_at, partition, partitions)).look()


class Logs(Protocol):
    """What is read of the log; `LogReader` reads it from Kafka. Methods raise `CannotCheck`."""

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """(earliest, end) offsets."""

    def read(self, topic: str, partition: int, first: int, after: int) -> Iterator[list[LogRecord]]:
        """The records of offsets [first, after) in order."""

    def record_at(self, topic: str, partition: int, offset: int) -> LogRecord:
        """One record."""


@dataclass(frozen=True)
class _Folding:
    """What the fold of one partition is made of. `record_at` may be asked while `logs` is being read."""

    metadata: MetadataLog
    logs: Logs
    record_at: Callable[[str, int, int], LogRecord]
    partition: int
    partitions: int


@dataclass
class _Block:
    """Folded rows that were not compared yet."""

    first: int
    after: int
    rows: int = 0
    size: int = 0
    earliest_us: int = 0
    """Time of the earliest record."""

    tables: dict[str, list[pa.Table]] = field(default_factory=dict)

    def take(self, records: list[LogRecord], tables: Mapping[str, pa.Table]) -> None:
        self.after = records[-1].offset + 1
        earliest = min(record.timestamp_us for record in records)
        self.earliest_us = min(self.earliest_us, earliest) if self.earliest_us else earliest
        self.size += sum(len(record.value) for record in records)
        for name, rows in tables.items():
            self.tables.setdefault(name, []).append(rows)
            self.rows += rows.num_rows


class _Partition:
    """The re-fold of one partition."""

    def __init__(self, refold: Refold, folding: _Folding) -> None:
        self._refold, self._folding, self._partition = refold, folding, folding.partition
        self._name = f"{refold.topic}[{self._partition}]"
        self._asked = {"topic": refold.topic, "partition": self._partition}
        self._comparisons = [Comparison(kept) for kept in KEPT]
        self._announced = Announcements()
        self._checkpoint: dict[str, Any] | None = None

    def look(self) -> Iterator[Finding]:
        newest = self._row("ORDER BY next_offset DESC")
        if newest is None:
            yield note(CHECK, self._name, "nothing to compare: it has no checkpoint")
            return
        start = self._start()
        if start is None:
            yield note(CHECK, self._name, "not checked: the log is no longer retained from any checkpoint on")
            return
        first, resume = start
        if resume is not None:
            yield note(
                CHECK,
                self._name,
                f"offsets below {first} are no longer retained: their rows are not compared",
                first=first,
            )
        fold = self._fold(resume)
        try:
            self._fold_to(fold, first, newest["next_offset"])
            differences = self._settled(fold)
            announced = self._announced_otherwise(fold, whole=resume is None)
        except FoldStopped as error:
            raise CannotCheck(f"{self._name}: {error}") from error
        if announced:
            more = f" (and {len(announced) - 1} more)" if len(announced) > 1 else ""
            yield wrong(CHECK, self._name, announced[0] + more, announced=listed(announced))
        yield from self._findings(differences, first, fold.next_offset)
        at_end = self._row("AND next_offset = {end:Int64}", end=fold.next_offset)
        if at_end is not None:
            yield from self._totals(at_end)

    def _start(self) -> tuple[int, dict[str, Any] | None] | None:
        """The first offset whose rows are compared, and the checkpoint that the fold resumes from."""
        earliest, _ = self._folding.logs.bounds(self._refold.topic, self._partition)
        if earliest == 0:
            return 0, None
        resume = self._row("AND replay_from >= {earliest:Int64} ORDER BY next_offset", earliest=earliest)
        return None if resume is None else (resume["next_offset"], resume)

    def _announced_otherwise(self, fold: PartitionFold, *, whole: bool) -> list[str]:
        """What is still so after a pause: a worker may have written a run whose checkpoint comes a moment later."""
        for _ in range(2):
            known = whole and self._is_newest(fold)
            found = list(self._announced.differences(self._refold.client, self._asked, fold.next_offset, whole=known))
            if not found:
                break
            time.sleep(PAUSE.total_seconds())
        return found

    def _is_newest(self, fold: PartitionFold) -> bool:
        """Whether no worker has gone on meanwhile: a run of records may reach beyond what was folded here."""
        newest = self._row("ORDER BY next_offset DESC")
        return newest is not None and newest["next_offset"] <= fold.next_offset

    def _row(self, rest: str, **asked: Any) -> dict[str, Any] | None:
        query = f"{_CHECKPOINT} WHERE {_OF_PARTITION} {rest} LIMIT 1"
        return checkpoint_row(_arrow(self._refold.client, query, {**self._asked, **asked}))

    def _fold(self, resume: Mapping[str, Any] | None) -> PartitionFold:
        return PartitionFold(
            topic=self._refold.topic,
            partition=self._partition,
            partitions=self._folding.partitions,
            metadata=self._folding.metadata,
            trust=self._refold.trust,
            worker="audit",
            checkpoint=resume,
        )

    def _fold_to(self, fold: PartitionFold, first: int, after: int) -> None:
        """Folds on up to `after` and compares block by block. `first`: nothing below it is new to the tables."""
        block = _Block(max(first, fold.next_offset), max(first, fold.next_offset))
        for records in self._folding.logs.read(self._refold.topic, self._partition, fold.next_offset, after):
            output = fold.fold(records)
            output.complete(lambda offset: self._folding.record_at(self._refold.topic, self._partition, offset))
            block.take(records, output.tables)
            if "gateway_epochs" in output.tables:
                self._announced.take(output.tables["gateway_epochs"])
            self._checkpoint = output.checkpoint
            if block.rows >= self._refold.block_rows or block.size >= BLOCK_BYTES:
                self._compare(block)
                block = _Block(block.after, block.after)
        if fold.next_offset < after:
            raise CannotCheck(f"{self._name}: the log ends at offset {fold.next_offset}, rows go up to {after}")
        block.after = after
        self._compare(block)

    def _compare(self, block: _Block) -> None:
        for comparison in self._comparisons:
            kept = comparison.kept
            rows = comparison.collapsed(block.tables.get(kept.table, []))
            if kept.table == "operator_log":
                rows = rows.filter(pl.col("topic") == self._topic_of(kept))
            held = self._held(kept, *self._range(comparison, rows, block))
            comparison.take(rows, held, self._new(kept, held, block))
            for part in comparison.expected.iter_slices(LOOKUP_ROWS):
                comparison.pass_over_superseded(self._looked_up(kept, part))

    def _topic_of(self, kept: Kept) -> str:
        return self._refold.metadata_topic if kept.of_metadata else self._refold.topic

    def _new(self, kept: Kept, held: pl.DataFrame, block: _Block) -> pl.DataFrame:
        """Of the table's rows those that a record of this block must give."""
        new = held.filter(pl.col(kept.place) >= block.first)
        if kept.of_metadata:
            return new.clear()  # another generation of the topic may have given them
        return new

    def _range(self, comparison: Comparison, rows: pl.DataFrame, block: _Block) -> tuple[str, dict[str, Any]]:
        """Which rows of the table may be those of a block, and those that it left open before."""
        asked = {**self._asked, "high": block.after}
        if comparison.kept.table == "gateway_epochs":
            # a run ends with the time of its last record, and may have begun with a record before the block
            condition = f"first_offset < {{high:Int64}} AND {_number('recorded_at')} >= {{low:Int64}}"
            return f"{_OF_PARTITION} AND {condition}", {**asked, "low": block.earliest_us}
        if comparison.kept.of_metadata:
            return "topic = {metadata:String}", {"metadata": self._refold.metadata_topic}
        place = f"`{comparison.kept.place}`"
        condition = f"{place} >= {{low:Int64}} AND {place} < {{high:Int64}}"
        return f"{_OF_PARTITION} AND {condition}", {**asked, "low": comparison.lowest(rows, block.first)}

    def _held(self, kept: Kept, condition: str, asked: Mapping[str, Any]) -> pl.DataFrame:
        names = ", ".join(f"`{name}`" for name in column_names(kept.table))
        final = "" if kept.table == "gateway_epochs" else "FINAL"
        query = f"SELECT {names} FROM {kept.table} {final} WHERE {condition}"
        return kept.frame(_arrow(self._refold.client, query, asked))

    def _settled(self, fold: PartitionFold) -> list[Difference]:
        """What differs after looking again: workers may have written rows of records that were not folded here yet."""
        for look in range(LOOKS):
            differences = self._differences()
            newest = self._row("ORDER BY next_offset DESC")
            if not differences or newest is None:
                break
            if newest["next_offset"] > fold.next_offset:
                self._fold_to(fold, fold.next_offset, newest["next_offset"])
            elif look:
                break  # nobody writes
            else:
                time.sleep(PAUSE.total_seconds())
        return self._differences()

    def _differences(self) -> list[Difference]:
        found = []
        for comparison in self._comparisons:
            rows = comparison.open_rows(LISTED)
            if rows.height:
                found += comparison.differences(self._looked_up(comparison.kept, rows), LISTED)
        return found

    def _looked_up(self, kept: Kept, rows: pl.DataFrame) -> pl.DataFrame:
        """What the table holds of these rows, wherever it is now."""
        values = rows[kept.lookup].unique()
        if values.dtype == pl.Datetime:
            values = values.dt.epoch("us")
        kind = "String" if values.dtype == pl.String else "Int64"
        condition = f"{_number(kept.lookup)} IN {{values:Array({kind})}}"
        if not kept.anywhere and not kept.of_metadata:
            condition += f" AND {_OF_PARTITION}"
        return self._held(kept, condition, {**self._asked, "values": values.to_list()})

    def _findings(self, differences: list[Difference], first: int, after: int) -> Iterator[Finding]:
        for comparison in self._comparisons:
            of_table = [difference for difference in differences if difference.kept is comparison.kept]
            if of_table:
                more = f" (and {len(of_table) - 1} more rows)" if len(of_table) > 1 else ""
                evidence = [difference.as_json() for difference in of_table]
                yield wrong(CHECK, self._name, of_table[0].text + more, differences=listed(evidence))
            elif comparison.kept is KEPT[0]:
                agreed = {each.kept.table: each.agreed for each in self._comparisons if not each.kept.of_metadata}
                what = f"folded again from offset {first} to {after - 1}: {agreed['usage_facts']:,} facts as they are"
                yield ok(CHECK, self._name, what, **agreed)

    def _totals(self, newest: Mapping[str, Any]) -> Iterator[Finding]:
        """The newest checkpoint against the one that the fold gives at the same offset."""
        folded = self._checkpoint
        if folded is None or folded["next_offset"] != newest["next_offset"]:
            return
        changed = {name: [folded[name], newest[name]] for name in _TOTALS if folded[name] != newest[name]}
        if changed:
            texts = [f"{name} {then} → {now}" for name, (then, now) in changed.items()]
            what = f"ingest_batches: the checkpoint at offset {newest['next_offset']} was changed: {', '.join(texts)}"
            yield wrong(CHECK, self._name, what, changed=changed)


def _number(column: str) -> str:
    return f"toUnixTimestamp64Micro({column})" if column in ("recorded_at", "window_start") else f"`{column}`"


def _arrow(client: Client, query: str, asked: Mapping[str, Any]) -> pa.Table:
    try:
        return client.query_arrow(query, dict(asked), use_strings=False)
    except FAILURES as error:
        raise sink_error("read rows to compare", error) from error
    except (pa.ArrowException, ValueError) as error:  # an answer that broke off is no answer
        raise sink_error("read rows to compare", error) from error
