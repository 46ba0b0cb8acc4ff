"""Sealers on the real ClickHouse engine with a topic of seals in memory, and the rows that they seal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.rows import AMOUNTS, CorrectionRow
from gatemeter.processors.corrections.staging import stage
from gatemeter.processors.sealing.anchors import Anchor
from gatemeter.processors.sealing.chain import Chain, SealsRecord
from gatemeter.processors.sealing.contents import content_of
from gatemeter.processors.sealing.sealer import Sealed, Sealer, Trusted
from gatemeter.schemas import codec
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from gatemeter.sinks.port import FactSink
from support.facts import HOUR_US, NOON_US, blank_row, checkpoint
from support.seals import OPERATOR, SEALER, close_datum

SEALS_TOPIC = "gatemeter.seals"
EVENTS_TOPIC = "gatemeter.events"
TRUSTED = Trusted({SEALER.kid: SEALER.public_hex}, {OPERATOR.kid: OPERATOR.public_hex})


class MemoryTopic:
    """Implements `SealsTopic`: a log in memory that any number of sealers share."""

    def __init__(self, partitions: int = 1) -> None:
        self.records: list[SealsRecord] = []
        self.partitions = partitions

    def read(self, offset: int) -> list[SealsRecord]:
        return self.records[offset:]

    def append(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        self.records.append(SealsRecord(len(self.records), value, dict(headers)))

    def places(self) -> list[tuple[str, int]]:
        return [(EVENTS_TOPIC, partition) for partition in range(self.partitions)]

    def close_period(self, period: str, after: int) -> None:
        """What `gatemeter periods close` appends."""
        value = codec.encode("PeriodClose", close_datum(period, after))
        self.append(b"", value, OPERATOR.headers(value))

    def chain(self) -> Chain:
        """The chain as everybody sees it."""
        chain = Chain(TRUSTED.sealers, TRUSTED.operators)
        for record in self.records:
            chain.append(record)
        return chain


class Hours:
    """A database whose hours are sealed. Hours are counted from 2026-03-01 12:00 UTC."""

    def __init__(self, settings: ClickHouseSettings, client: Client, *, partitions: int = 1) -> None:
        self.client = client
        self.sink = ClickHouseSink(settings)
        self.topic = MemoryTopic(partitions)
        self.rows_a_range = 1_000
        self._offset = 0

    def usage(self, *rows: dict[str, Any]) -> None:
        """Rows of usage_facts; `posted` and `used` in hours."""
        self._facts("usage_facts", rows)

    def decisions(self, *rows: dict[str, Any]) -> None:
        """Rows of policy_facts; the same."""
        self._facts("policy_facts", rows)

    def _facts(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        made = []
        for row in rows:
            posted, used = row.pop("posted", 0), row.pop("used", None)
            used = posted if used is None else used
            times = {"posted_hour": at(posted), "usage_hour": at(used), "request_started_at": at(used) + 1}
            made.append(
                {**row, **times, **{k: v for k, v in row.items() if k == "request_started_at" and v != NOON_US}}
            )
        self.sink.write(table, rows_to_arrow(table, made))

    def over(self, hour: int, *partitions: int) -> None:
        """The posting floor of partitions (default: all) has reached the end of an hour."""
        self._offset += 10
        rows = [
            checkpoint(partition=partition, next_offset=self._offset, posting_floor=at(hour + 1))
            for partition in partitions or range(self.topic.partitions)
        ]
        self.sink.write("ingest_batches", rows_to_arrow("ingest_batches", rows))

    def correct(self, posted: int, *rows: CorrectionRow, run: str = "run-1") -> None:
        """Stages a run and writes the row that its COMMIT makes."""
        numbered = [replace(row, run_id=run, entry=number) for number, row in enumerate(rows)]
        staged = stage(self.sink, run, numbered)
        self._offset += 10
        commit = blank_row("commits") | {
            "run_id": run,
            "version": (1 << 40) - 1 - self._offset,
            "rows_digest": staged.digest.hex(),
            "entries": staged.entries,
            "cause": rows[0].cause,
            "reason": rows[0].reason,
            "posted_hour": at(posted),
            "topic": EVENTS_TOPIC,
            "offset": self._offset,
            "recorded_at": at(posted) + 5,
        }
        self.sink.write("commits", rows_to_arrow("commits", [commit]))

    def sealer(self, *, sink: FactSink | None = None, topic: Any = None, anchors: Sequence[Anchor] = ()) -> Sealer:
        """A sealer that has just been started."""
        return Sealer(
            self.client,
            sink or self.sink,
            topic or self.topic,
            SEALER,
            TRUSTED,
            seals_topic=SEALS_TOPIC,
            anchors=anchors,
            rows_a_range=self.rows_a_range,
            now_us=lambda: NOON_US,
        )

    def seal(self, through: int | None = None) -> Sealed:
        """A new sealer seals what is over."""
        return self.sealer().run(None if through is None else at(through))

    def roots(self, hour: int, open_period: str = "") -> tuple[bytes, bytes]:
        """The roots of leaves and entries that an hour gives now."""
        with content_of(self.client, at(hour), open_period, 3) as content:
            return content.leaves_root, content.entries_root

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Rows of a query."""
        return list(self.client.query(sql).named_results())

    def ledger(self, columns: str = "entry, cause, request_id, attempt, charge", where: str = "1") -> list[Any]:
        """Canonical entries in order."""
        sql = f"SELECT {columns} FROM ledger_entries WHERE {where} ORDER BY ledger_entries.posted_hour, entry"
        return list(self.client.query(sql).result_rows)


def at(hour: int) -> int:
    """An hour as microseconds."""
    return NOON_US + hour * HOUR_US


def replacement(request_id: str, attempt: int = 1, **changes: Any) -> CorrectionRow:
    """A correction of the row of `fact(request_id, attempt)`: everything costs 7, nothing is marked up."""
    row = CorrectionRow(
        run_id="run",
        entry=0,
        kind="replace",
        target="usage",
        gateway_id="gw",
        request_id=request_id,
        attempt=attempt,
        response_hash=f"{request_id}-{attempt}",
        usage_hour=NOON_US,
        **dict.fromkeys(("tenant_id", "app_id", "workload_id", "cost_centre", "business_unit", "organisation")),
        currency="USD",
        rate_card_id="card-2",
        plan_id="plan",
        **dict.fromkeys(AMOUNTS, 0) | {"list_cost": 7, "provider_cost": 7, "token_cost": 7, "charge": 7},  # type: ignore[arg-type]
        absorbed_to="",
        price_status="priced",
        cause="reprice",
        reason="new card",
    )
    return replace(row, **changes)


def free(charge: int, **changes: Any) -> CorrectionRow:
    """A free entry of tenant acme."""
    blank = {"kind": "free", "target": "", "gateway_id": "", "request_id": "", "attempt": 0, "response_hash": ""}
    row = replacement("x", tenant_id="acme", charge=charge, cause="manual", reason="credit")
    return CorrectionRow(**(asdict(row) | blank | changes))


class Crash(Exception):
    """A sealer was killed here."""


class Mortal:
    """A sink and a topic that kill their sealer after so many steps; with `applied` the last step still happens."""

    def __init__(self, sink: FactSink, topic: MemoryTopic, steps: int, *, applied: bool) -> None:
        self._sink, self._topic, self._left, self._applied = sink, topic, steps, applied

    def _step(self, act: Any) -> Any:
        self._left -= 1
        if self._left < 0 and not self._applied:
            raise Crash
        result = act()
        if self._left < 0:
            raise Crash
        return result

    def write(self, table: str, rows: pa.Table) -> None:
        self._step(lambda: self._sink.write(table, rows))

    def latest_checkpoint(self, topic: str, partition: int) -> dict[str, Any] | None:
        return self._sink.latest_checkpoint(topic, partition)

    def read(self, offset: int) -> Any:
        return self._step(lambda: self._topic.read(offset))

    def append(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        self._step(lambda: self._topic.append(key, value, headers))

    def places(self) -> list[tuple[str, int]]:
        return self._topic.places()
