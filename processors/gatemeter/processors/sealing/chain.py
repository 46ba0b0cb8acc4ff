"""The chain of seals, as a pure function of the records of the topic `gatemeter.seals`.

A record has an effect or is ignored with a reason; nothing else enters. The first record that extends the tip is
canonical: number = tip + 1, previous = the tip's id, the next hour, the open period, an id that its own fields give,
and the signature of a known sealer. A month closes by a record of a known operator: the next month in order, after the
tip. Everyone who reads the topic with the same public keys sees the same chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gatemeter.processors.sealing.periods import is_period, next_period
from gatemeter.schemas import codec, signing
from gatemeter.schemas.seals import HOUR_US, NO_SEAL, seal_id


@dataclass(frozen=True, slots=True)
class SealsRecord:
    """One record of the topic of seals."""

    offset: int
    value: bytes
    headers: Mapping[str, bytes | None]


@dataclass(frozen=True, slots=True)
class Seal:
    """A canonical seal. Digests are bytes, times microseconds UTC; `value` and `signature` as they are in the topic."""

    number: int
    seal_id: bytes
    previous: bytes
    posted_hour_us: int
    leaves: int
    leaves_root: bytes
    entries: int
    entries_root: bytes
    open_period: str
    partitions: tuple[tuple[str, int], ...]
    sealed_at_us: int
    kid: str
    value: bytes
    signature: bytes
    offset: int

    def own_id(self) -> bytes:
        """The id that its fields give."""
        places = [{"topic": topic, "partition": partition} for topic, partition in self.partitions]
        return seal_id(
            {
                "posted_hour": self.posted_hour_us,
                "previous": self.previous,
                "leaves_root": self.leaves_root,
                "entries_root": self.entries_root,
                "open_period": self.open_period,
                "partitions": places,
            }
        )


@dataclass(frozen=True, slots=True)
class ClosedPeriod:
    """A month that is closed. `open_points`: JSON."""

    period: str
    after: int
    open_points: str
    reason: str
    issued_at_us: int
    kid: str
    value: bytes
    offset: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """A record without effect, and why."""

    offset: int
    reason: str


@dataclass
class Chain:
    """The chain as far as it was read. `sealers`, `operators`: key id → public Ed25519 key, 64 hex digits."""

    sealers: Mapping[str, str]
    operators: Mapping[str, str]
    seals: list[Seal] = field(default_factory=list)
    closed: list[ClosedPeriod] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)
    next_offset: int = 0

    @property
    def tip(self) -> Seal | None:
        """The last canonical seal."""
        return self.seals[-1] if self.seals else None

    @property
    def tip_number(self) -> int:
        """Its number; −1 where there is none."""
        return len(self.seals) - 1

    @property
    def tip_id(self) -> bytes:
        """What the next seal names as its previous."""
        return self.seals[-1].seal_id if self.seals else NO_SEAL

    @property
    def open_period(self) -> str:
        """The oldest open month, YYYY-MM; '' while none was ever closed."""
        return next_period(self.closed[-1].period) if self.closed else ""

    def append(self, record: SealsRecord) -> Seal | ClosedPeriod | Ignored:
        """Takes the next record. Raises `ValueError` for an offset that was read before."""
        if record.offset < self.next_offset:
            raise ValueError(f"offset {record.offset} was read before; next is {self.next_offset}")
        self.next_offset = record.offset + 1
        effect = self._effect(record)
        if isinstance(effect, Seal):
            self.seals.append(effect)
        elif isinstance(effect, ClosedPeriod):
            self.closed.append(effect)
        else:
            self.ignored.append(effect)
        return effect

    def _effect(self, record: SealsRecord) -> Seal | ClosedPeriod | Ignored:
        try:
            decoded = codec.decode(record.value)
        except codec.CodecError as error:
            return Ignored(record.offset, f"{error}")
        if decoded.name == "Seal":
            return self._seal(record, decoded.datum)
        if decoded.name == "PeriodClose":
            return self._close(record, decoded.datum)
        return Ignored(record.offset, f"a {decoded.name} has no place in the topic of seals")

    def _seal(self, record: SealsRecord, datum: Mapping[str, Any]) -> Seal | Ignored:
        if not signing.signature_is_valid(self.sealers, record.headers, record.value):
            return Ignored(record.offset, f"seal not signed by a known sealer (key id {_kid(record)!r})")
        seal = _seal_from(record, datum)
        problem = self._misfit(seal)
        return Ignored(record.offset, f"seal {seal.number}: {problem}") if problem else seal

    def _misfit(self, seal: Seal) -> str:
        if seal.number != self.tip_number + 1:
            return f"number must be {self.tip_number + 1}"
        if seal.previous != self.tip_id:
            return f"previous must be {self.tip_id.hex()}, got {seal.previous.hex()}"
        if seal.seal_id != seal.own_id():
            return f"seal_id must be {seal.own_id().hex()}, got {seal.seal_id.hex()}"
        if seal.posted_hour_us % HOUR_US:
            return "posted_hour must be a full hour"
        if self.tip is not None and seal.posted_hour_us != self.tip.posted_hour_us + HOUR_US:
            return "posted_hour must be the hour after the previous seal's"
        if seal.open_period != self.open_period:
            return f"open_period must be {self.open_period!r}, got {seal.open_period!r}"
        return ""

    def _close(self, record: SealsRecord, datum: Mapping[str, Any]) -> ClosedPeriod | Ignored:
        if not signing.signature_is_valid(self.operators, record.headers, record.value):
            return Ignored(record.offset, f"close not signed by a known operator (key id {_kid(record)!r})")
        close = _close_from(record, datum)
        if not is_period(close.period):
            problem = f"period must be YYYY-MM, got {close.period!r}"
        elif self.closed and close.period != self.open_period:
            problem = f"the next month to close is {self.open_period}"
        elif self.tip is None or close.after != self.tip_number:
            problem = f"after must be the number of the last seal, {self.tip_number}"
        else:
            return close
        return Ignored(record.offset, f"close of {close.period}: {problem}")


def seal_of(record: SealsRecord) -> Seal:
    """The seal that a record holds, unchecked. Raises `CodecError`, `KeyError`, `TypeError` where it holds none."""
    return _seal_from(record, codec.decode(record.value).datum)


def _seal_from(record: SealsRecord, datum: Mapping[str, Any]) -> Seal:
    return Seal(
        number=datum["number"],
        seal_id=datum["seal_id"],
        previous=datum["previous"],
        posted_hour_us=datum["posted_hour"],
        leaves=datum["leaves"],
        leaves_root=datum["leaves_root"],
        entries=datum["entries"],
        entries_root=datum["entries_root"],
        open_period=datum["open_period"],
        partitions=tuple((place["topic"], place["partition"]) for place in datum["partitions"]),
        sealed_at_us=datum["sealed_at"],
        kid=_kid(record),
        value=record.value,
        signature=record.headers.get(signing.SIGNATURE_HEADER) or b"",
        offset=record.offset,
    )


def _close_from(record: SealsRecord, datum: Mapping[str, Any]) -> ClosedPeriod:
    return ClosedPeriod(
        period=datum["period"],
        after=datum["after"],
        open_points=datum["open_points"],
        reason=datum["reason"],
        issued_at_us=datum["issued_at"],
        kid=_kid(record),
        value=record.value,
        offset=record.offset,
    )


def _kid(record: SealsRecord) -> str:
    return (record.headers.get(signing.KID_HEADER) or b"").decode("utf-8", "replace")
