"""Seals hours: stage the rows, commit by one append, read back, copy what is canonical.

Any number of sealers may run, each may die anywhere: the same hour on the same tip gives the same rows under the same
id, the topic decides which record is canonical, and everything after the append is done again by whoever comes next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from gatemeter.processors.sealing.anchors import Anchor, AnchorError, anchor_seals
from gatemeter.processors.sealing.chain import Chain, ClosedPeriod, Seal
from gatemeter.processors.sealing.contents import ROWS_A_RANGE, Content, SealStopped, content_of
from gatemeter.processors.sealing.hours import Waiting, next_hour, over_before, utc, why_not_sealable
from gatemeter.processors.sealing.reading import SealReader
from gatemeter.processors.sealing.rows import (
    close_rows,
    exception_rows,
    operator_log_rows,
    seal_leaves_table,
    seal_rows,
)
from gatemeter.processors.sealing.seals_topic import SealsTopic
from gatemeter.schemas import codec
from gatemeter.schemas.seals import seal_id
from gatemeter.schemas.signing import OperatorKey
from gatemeter.sinks.port import FactSink

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trusted:
    """Public keys, key id → 64 hex digits: of sealers for seals, of operators for closes."""

    sealers: dict[str, str]
    operators: dict[str, str]


@dataclass
class Sealed:
    """What one run did: hours sealed by this sealer, what it waits for, seals copied, and anchors that failed."""

    hours: list[Seal] = field(default_factory=list)
    waiting: str = ""
    tip: Seal | None = None
    anchor_problems: list[str] = field(default_factory=list)


class Sealer:
    """`client` reads, `sink` writes; both of the same ClickHouse. `key` may be None: then it only copies."""

    def __init__(
        self,
        client: Client,
        sink: FactSink,
        topic: SealsTopic,
        key: OperatorKey | None,
        trusted: Trusted,
        *,
        seals_topic: str,
        anchors: Sequence[Anchor] = (),
        rows_a_range: int = ROWS_A_RANGE,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        self._client = client
        self._reader = SealReader(client)
        self._sink = sink
        self._topic = topic
        self._key = key
        self._seals_topic = seals_topic
        self._anchors = anchors
        self._rows_a_range = rows_a_range
        self._now_us = now_us
        self.chain = Chain(trusted.sealers, trusted.operators)
        if key is not None and trusted.sealers.get(key.kid) != key.public_hex:
            raise SealStopped(
                f"the sealer's key {key.kid!r} is not among the public keys of sealers: its seals would be ignored"
            )

    def run(self, through_us: int | None = None) -> Sealed:
        """Seals every hour that is over, up to and with the one that begins at `through_us` where it is given.

        Raises `SealStopped`, `SealsUnreachable`, `SinkUnavailable`, `SinkRefused`.
        """
        done = Sealed()
        self.catch_up()
        while True:
            step = self._seal_next(through_us)
            if isinstance(step, Waiting):
                done.waiting = step.reason
                break
            if step is not None:
                done.hours.append(step)
        done.tip = self.chain.tip
        done.anchor_problems = self._anchor()
        return done

    def catch_up(self) -> None:
        """Reads what is new in the topic and copies what is canonical, in order.

        1. exceptions of a seal: a crash here: they are written again, equal, and collapse
        2. the row in `seals`: from here on views count its entries, and nobody copies it again
        3. closes and their lines in the operator log: equal rows collapse
        """
        self._read_topic()
        copied = self._last_copied()
        for seal in self.chain.seals[copied + 1 :]:
            for rows in self._exceptions(seal):
                self._write("exceptions", rows)
            self._write("seals", seal_rows([seal]))
        known = self._reader.closed_periods()
        closes = [close for close in self.chain.closed if close.period not in known]
        self._copy_closes(closes)

    def _read_topic(self) -> None:
        for record in self._topic.read(self.chain.next_offset):
            self.chain.append(record)

    def _last_copied(self) -> int:
        last = self._reader.last_copied()
        if last is None:
            return -1
        number, found = last
        if number >= len(self.chain.seals):
            self._read_topic()  # another sealer may have appended and copied since it was read
        if number >= len(self.chain.seals):
            raise SealStopped(
                f"ClickHouse holds seal {number}, {self._seals_topic} ends at {self.chain.tip_number}:"
                " seals were deleted from the topic, or it was made anew; restore it, then run gatemeter audit"
            )
        expected = self.chain.seals[number].seal_id.hex()
        if found != expected:
            raise SealStopped(
                f"seal {number} is {found} in ClickHouse and {expected} in {self._seals_topic}: run gatemeter audit"
            )
        return number

    def _copy_closes(self, closes: list[ClosedPeriod]) -> None:
        self._write("operator_log", operator_log_rows(closes, self._seals_topic))
        self._write("closed_periods", close_rows(closes))

    def _exceptions(self, seal: Seal) -> Iterator[pa.Table]:
        number = 0
        for keys in self._reader.ranges("usage", seal.posted_hour_us, self._rows_a_range):
            found = self._reader.irregular_attempts(seal.posted_hour_us, keys)
            rows = exception_rows(seal, found, self._seals_topic, number)
            number += rows.num_rows
            yield rows
        found = self._reader.superseded_corrections(seal.posted_hour_us)
        yield exception_rows(seal, found, self._seals_topic, number)

    def _seal_next(self, through_us: int | None) -> Seal | Waiting | None:
        """The seal that this sealer added; None where another was faster.

        1. compute the rows and their roots from what is in ClickHouse: nothing is written
        2. stage the rows under the seal's id: a crash here leaves rows that no view counts; the next sealer writes
           the same again
        3. append the seal: from here on it is canonical, or another one was first
        4. read back and copy: whoever comes next does it
        """
        if self._key is None:
            return Waiting("no sealer's key is set")
        places = self._topic.places()
        floors = self._reader.floors(places)
        tip = self.chain.tip
        hour_us = next_hour(
            tip.posted_hour_us if tip else None,
            None if tip else self._reader.first_posted_hour(over_before(floors)),
        )
        if hour_us is None:
            waits = why_not_sealable(0, floors)
            return Waiting(waits or f"nothing was posted before {utc(over_before(floors))}")
        if through_us is not None and hour_us > through_us:
            return Waiting(f"sealed through {utc(through_us)}, as asked")
        reason = why_not_sealable(hour_us, floors)
        if reason:
            return Waiting(f"hour {utc(hour_us)}: {reason}")
        return self._seal(hour_us, places, self._key)

    def _seal(self, hour_us: int, places: Sequence[tuple[str, int]], key: OperatorKey) -> Seal | None:
        started = time.monotonic()
        with content_of(self._client, hour_us, self.chain.open_period, self._rows_a_range) as content:
            datum: dict[str, Any] = {
                "number": self.chain.tip_number + 1,
                "previous": self.chain.tip_id,
                "posted_hour": hour_us,
                "leaves": content.leaves.rows,
                "leaves_root": content.leaves_root,
                "entries": content.entries.rows,
                "entries_root": content.entries_root,
                "open_period": self.chain.open_period,
                "partitions": [{"topic": topic, "partition": partition} for topic, partition in sorted(places)],
                "sealed_at": self._now_us(),
            }
            datum["seal_id"] = seal_id(datum)
            self._stage(datum["seal_id"].hex(), hour_us, content)
        value = codec.encode("Seal", datum)
        self._topic.append(utc(hour_us).encode(), value, key.headers(value))
        self.catch_up()
        mine = next((seal for seal in self.chain.seals[datum["number"] :][:1] if seal.value == value), None)
        if mine is None:
            log.info("hour %s: another record was first in %s", utc(hour_us), self._seals_topic)
            return None
        log.info(
            "sealed %s as number %d: %d leaves, %d entries, %.1f s",
            utc(hour_us),
            mine.number,
            mine.leaves,
            mine.entries,
            time.monotonic() - started,
        )
        return mine

    def _stage(self, sealed_as: str, hour_us: int, content: Content) -> None:
        first = 0
        for rows in content.leaves.blocks():
            self._write("seal_leaves", seal_leaves_table(rows, sealed_as, hour_us, first))
            first += rows.num_rows
        for rows in content.entries.blocks():
            place = rows.schema.get_field_index("seal_id")
            ids = pa.array([sealed_as] * rows.num_rows, pa.large_string())
            self._write("ledger", rows.set_column(place, rows.schema.field(place), ids))

    def _write(self, table: str, rows: pa.Table) -> None:
        if rows.num_rows:
            self._sink.write(table, rows)

    def _anchor(self) -> list[str]:
        problems = []
        for anchor in self._anchors:
            try:
                anchor_seals(anchor, self.chain.seals)
            except AnchorError as error:
                log.warning("%s", error)
                problems.append(str(error))
        return problems
