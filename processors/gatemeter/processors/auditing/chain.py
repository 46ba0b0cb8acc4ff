"""The chain of seals: each by its own content and signature, one after the other, in the table and in the topic.

The table `seals` is a copy that is convenient to query; the topic is what counts. Both are read as a stranger would,
with public keys alone: numbers, predecessors, hours without a gap, ids that the fields give, signatures of known
sealers. Then they are held against each other, the months that were closed too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.auditing.logs import Kafka
from gatemeter.processors.sealing.chain import Chain, ClosedPeriod, Seal, SealsRecord, seal_of
from gatemeter.processors.sealing.hours import utc
from gatemeter.processors.sealing.seals_topic import KafkaSealsTopic, SealsUnreachable
from gatemeter.schemas import signing
from gatemeter.schemas.codec import CodecError
from gatemeter.schemas.seals import HOUR_US, NO_SEAL
from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.reports.audit import CannotCheck, Finding, listed, note, ok, wrong
from gatemeter.sinks.rows import query_rows

CHECK: Final = "chain"
_SEALS: Final = (
    "SELECT number, seal_id, previous, posted_hour, leaves, leaves_root, entries, entries_root, open_period, kid,"
    " value, signature, offset, sealed_at FROM seals FINAL ORDER BY number"
)
_CLOSES: Final = (
    "SELECT period, after_seal, open_points, kid, reason, offset, closed_at FROM closed_periods FINAL ORDER BY period"
)


@dataclass(frozen=True, slots=True)
class SealRow:
    """A row of the table `seals`: its columns as text and numbers, and the record that it says it is a copy of."""

    columns: Mapping[str, Any]
    record: SealsRecord

    @property
    def number(self) -> int:
        return int(self.columns["number"])

    @property
    def seal_id(self) -> str:
        return str(self.columns["seal_id"])

    @property
    def name(self) -> str:
        """For people."""
        return f"seal {self.number}"


def name_of(seal: Seal) -> str:
    """A seal for people."""
    return f"seal {seal.number} ({utc(seal.posted_hour_us)})"


def read_seals(client: Client) -> list[SealRow]:
    """The table `seals` in order. Raises `SinkUnavailable`, `SinkRefused`."""
    try:
        table = client.query_arrow(_SEALS, use_strings=False)
    except FAILURES as error:
        raise sink_error("read the table seals", error) from error
    rows = []
    for row in table.to_pylist():
        text = {
            name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            for name, value in row.items()
            if name not in ("value", "signature")
        }
        headers = {signing.KID_HEADER: row["kid"], signing.SIGNATURE_HEADER: row["signature"]}
        rows.append(SealRow(text, SealsRecord(int(row["offset"]), row["value"], headers)))
    return rows


def read_chain(kafka: Kafka, topic: str, sealers: Mapping[str, str], operators: Mapping[str, str]) -> Chain:
    """The chain as the topic gives it. Raises `CannotCheck`."""
    chain = Chain(sealers, operators)
    try:
        for record in KafkaSealsTopic(kafka.bootstrap, topic, "", kafka.client).read(0):
            chain.append(record)
    except SealsUnreachable as error:
        raise CannotCheck(str(error)) from error
    return chain


@dataclass(frozen=True)
class ChainCheck:
    """`kafka` None: the table alone. Without the operators' keys the topic cannot be read: closes are part of it."""

    client: Client
    sealers: Mapping[str, str]
    kafka: Kafka | None
    operators: Mapping[str, str] | None
    seals_topic: str

    def look(self) -> Iterator[Finding]:
        """What is wrong with a seal, seal by seal; one finding for the chain that holds."""
        rows = read_seals(self.client)
        problems = list(self._table(rows))
        yield from problems
        if self.kafka is None or self.operators is None:
            yield note(CHECK, "topic", "not compared with the topic: needs --bootstrap and --operator-keys")
            tip = rows[-1].columns if rows else None
        else:
            chain = read_chain(self.kafka, self.seals_topic, self.sealers, self.operators)
            compared = [*self._against(rows, chain), *self._closes(chain)]
            problems += compared
            yield from compared
            yield from self._ignored(chain)
            tip = rows[-1].columns if rows else None
        if not any(finding.result == "wrong" for finding in problems):
            what = "nothing is sealed yet" if tip is None else f"unbroken and signed; tip {tip['seal_id']}"
            yield ok(CHECK, f"{len(rows):,} seals", what)

    def _table(self, rows: list[SealRow]) -> Iterator[Finding]:
        """Each row by itself and after the one before, as the table has them."""
        number, previous, hour_us = 0, NO_SEAL, None
        for row in rows:
            problem, seal = self._row(row)
            if seal is not None and not problem:
                expected_hour = seal.posted_hour_us if hour_us is None else hour_us + HOUR_US
                if seal.number != number:
                    where = f"after seal {number - 1}: seals" if number else "first: the seals before it"
                    problem = f"comes {where} are missing"
                elif seal.previous != previous:
                    problem = f"names {seal.previous.hex()} as its predecessor, which is {previous.hex()}"
                elif seal.posted_hour_us != expected_hour:
                    problem = f"seals the hour {utc(seal.posted_hour_us)}, not {utc(expected_hour)}"
            if problem:
                yield wrong(CHECK, row.name, f"table seals: {problem}", seal_id=row.seal_id)
            if seal is not None:
                number, previous, hour_us = seal.number + 1, seal.seal_id, seal.posted_hour_us

    def _row(self, row: SealRow) -> tuple[str, Seal | None]:
        """What is wrong with one row by itself, and the seal that its record holds."""
        try:
            seal = seal_of(row.record)
        except (CodecError, KeyError, TypeError) as error:
            return f"its record cannot be read: {error}", None
        if not signing.signature_is_valid(self.sealers, row.record.headers, row.record.value):
            return f"not signed by a known sealer (key id {seal.kid!r}), or its record was changed", seal
        if seal.seal_id != seal.own_id():
            return f"its fields give the id {seal.own_id().hex()}, it says {seal.seal_id.hex()}", seal
        changed = {name: value for name, value in _columns(seal).items() if _plain(row.columns[name]) != value}
        if changed:
            texts = [f"{name} {value} → {_plain(row.columns[name])}" for name, value in changed.items()]
            return f"its columns are not what its record says: {', '.join(texts)}", seal
        return "", seal

    def _against(self, rows: list[SealRow], chain: Chain) -> Iterator[Finding]:
        held = {row.number: row for row in rows}
        for seal in chain.seals:
            row = held.pop(seal.number, None)
            if row is None:
                yield wrong(
                    CHECK, name_of(seal), f"{self.seals_topic} has it (offset {seal.offset}), the table seals not"
                )
            elif row.record.value != seal.value:
                what = f"{self.seals_topic} has {seal.seal_id.hex()}, the table seals {row.seal_id}"
                yield wrong(CHECK, name_of(seal), what)
        for row in held.values():
            what = f"the table seals has it, {self.seals_topic} ends at seal {chain.tip_number}: it was deleted there"
            reasons = [f"offset {each.offset}: {each.reason}" for each in chain.ignored]
            yield wrong(CHECK, row.name, what, seal_id=row.seal_id, ignored=listed(reasons))

    def _closes(self, chain: Chain) -> Iterator[Finding]:
        rows = {row["period"]: row for row in query_rows(self.client, "read closed_periods", _CLOSES)}
        for close in chain.closed:
            row = rows.pop(close.period, None)
            scope = f"month {close.period}"
            if row is None:
                yield wrong(
                    CHECK, scope, f"closed in {self.seals_topic} (offset {close.offset}), not in closed_periods"
                )
                continue
            changed = [name for name, value in _close_columns(close).items() if _plain(row[name]) != value]
            if changed:
                yield wrong(CHECK, scope, f"closed_periods differs from {self.seals_topic} in {', '.join(changed)}")
        for period in rows:
            yield wrong(CHECK, f"month {period}", f"closed in the table closed_periods, not in {self.seals_topic}")

    def _ignored(self, chain: Chain) -> Iterator[Finding]:
        if chain.ignored:
            reasons = [f"offset {each.offset}: {each.reason}" for each in chain.ignored]
            what = f"{len(reasons)} records of {self.seals_topic} have no effect: {reasons[0]}"
            yield note(CHECK, "topic", what, ignored=listed(reasons))


def _columns(seal: Seal) -> dict[str, Any]:
    """What the row of a seal must say."""
    return {
        "number": seal.number,
        "seal_id": seal.seal_id.hex(),
        "previous": seal.previous.hex(),
        "posted_hour": seal.posted_hour_us,
        "leaves": seal.leaves,
        "leaves_root": seal.leaves_root.hex(),
        "entries": seal.entries,
        "entries_root": seal.entries_root.hex(),
        "open_period": seal.open_period,
        "kid": seal.kid,
        "sealed_at": seal.sealed_at_us,
    }


def _close_columns(close: ClosedPeriod) -> dict[str, Any]:
    return {
        "period": close.period,
        "after_seal": close.after,
        "open_points": close.open_points,
        "kid": close.kid,
        "reason": close.reason,
        "offset": close.offset,
        "closed_at": close.issued_at_us,
    }


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _plain(value: Any) -> Any:
    """Times as microseconds, the rest as it is."""
    if not isinstance(value, datetime):
        return value
    since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
