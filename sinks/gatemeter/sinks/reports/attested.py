"""One epoch in one partition: its statements, what was received of it, its facts; and the first thing that is wrong.

Pure: rows and public keys in, findings out. `attestations.py` reads the rows.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gatemeter.schemas import codec

HASH_LENGTH: Final = codec.CONTENT_HASH_LENGTH
DIGEST_LENGTH: Final = 32

Ranges = tuple[tuple[int, int], ...]
"""Sequences [from, to)."""


@dataclass(frozen=True, slots=True)
class AttestationKey:
    """A gateway's public key: 64 hex digits, valid from and to (None: open) in microseconds UTC."""

    gateway_id: str
    public_hex: str
    valid_from_us: int = 0
    valid_to_us: int | None = None


class Place(NamedTuple):
    """One epoch in one partition."""

    gateway_id: str
    epoch: str
    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.gateway_id} epoch {self.epoch} {self.topic}[{self.partition}]"


@dataclass(frozen=True, slots=True)
class EpochCheck:
    """One epoch in one partition. `problem`: the first thing that is wrong, '' where nothing is.

    `received`: distinct sequences received; `attested` of these are covered by a statement that holds, `unattested`
    lists the others. `missing`: attested and not received.
    """

    place: Place
    received: int
    attested: int
    statements: int
    facts: int
    unattested: Ranges
    missing: Ranges
    problem: str

    @property
    def unattested_events(self) -> int:
        return sum(after - first for first, after in self.unattested)

    @property
    def missing_events(self) -> int:
        return sum(after - first for first, after in self.missing)


class Run(NamedTuple):
    first: int
    hashes: bytes


class Statement(NamedTuple):
    offset: int
    first: int
    after: int
    kid: str
    value: bytes
    signature: bytes
    recorded_at_us: int

    def __str__(self) -> str:
        return f"the attestation of [{self.first}, {self.after}) at offset {self.offset}"


class Fact(NamedTuple):
    sequence: int
    hash: bytes | None
    """None: of a REQUEST that was not answered, whose content the fact does not state."""
    name: str


@dataclass(slots=True)
class Held:
    """What the tables hold of one place, in any order."""

    runs: list[Run] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)


class _Finding(Exception):
    """The first thing that is wrong with a place."""


class _Received:
    """The content hashes received of one place, united over runs: blocks [first, after) without holes."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.firsts: list[int] = []
        self._hashes: list[bytearray] = []
        self.contradiction: int | None = None
        """A sequence under which two contents came."""
        for run in sorted(runs):
            if run.hashes:
                self._add(run)

    def _add(self, run: Run) -> None:
        if not self.firsts or run.first > self._after(-1):
            self.firsts.append(run.first)
            self._hashes.append(bytearray(run.hashes))
            return
        hashes = self._hashes[-1]
        start = (run.first - self.firsts[-1]) * HASH_LENGTH
        known = bytes(hashes[start : start + len(run.hashes)])
        if known != run.hashes[: len(known)] and self.contradiction is None:
            self.contradiction = run.first + _first_difference(known, run.hashes)
        hashes += run.hashes[len(known) :]

    def _after(self, block: int) -> int:
        return self.firsts[block] + len(self._hashes[block]) // HASH_LENGTH

    @property
    def events(self) -> int:
        return sum(map(len, self._hashes)) // HASH_LENGTH

    def ranges(self) -> Ranges:
        return tuple((first, self._after(block)) for block, first in enumerate(self.firsts))

    def hash(self, sequence: int) -> bytes | None:
        """None where it was not received."""
        return self.hashes(sequence, sequence + 1)

    def hashes(self, first: int, after: int) -> bytes | None:
        """Of [first, after); None where one is missing."""
        if first == after:
            return b""
        block = bisect_right(self.firsts, first) - 1
        if block < 0 or self._after(block) < after:
            return None
        start = first - self.firsts[block]
        return bytes(self._hashes[block][start * HASH_LENGTH : (start + after - first) * HASH_LENGTH])


def _first_difference(left: bytes, right: bytes) -> int:
    """Index of the first hash that differs."""
    return next(
        at // HASH_LENGTH
        for at in range(0, len(left), HASH_LENGTH)
        if left[at : at + HASH_LENGTH] != right[at : at + HASH_LENGTH]
    )


def checked(place: Place, rows: Held, keys: Mapping[str, AttestationKey]) -> EpochCheck:
    received = _Received(rows.runs)
    covered: list[tuple[int, int]] = []
    missing: list[tuple[int, int]] = []
    problem = ""
    try:
        if received.contradiction is not None:
            raise _Finding(f"sequence {received.contradiction} was received with two contents")
        for statement in _chain(place, rows.statements, keys):
            if _holds(statement, received):
                covered.append((statement.first, statement.after))
            else:
                missing += without([(statement.first, statement.after)], received.ranges())
        _check_facts(rows.facts, received)
    except _Finding as finding:
        problem = str(finding)
    unattested = without(received.ranges(), covered)
    return EpochCheck(
        place=place,
        received=received.events,
        attested=received.events - sum(after - first for first, after in unattested),
        statements=len({statement.value for statement in rows.statements}),
        facts=len(rows.facts),
        unattested=tuple(unattested),
        missing=tuple(missing),
        problem=problem,
    )


def _chain(place: Place, statements: list[Statement], keys: Mapping[str, AttestationKey]) -> Iterator[Statement]:
    """The statements in order of the chain, each verified. Raises `_Finding`."""
    following: dict[bytes, Statement] = {}
    distinct = {statement.value: statement for statement in sorted(statements, reverse=True)}
    for statement in sorted(distinct.values()):
        _verify(place, statement, keys)
        previous = codec.decode(statement.value).datum["previous"]
        other = following.setdefault(previous, statement)
        if other is not statement:
            raise _Finding(f"{statement} and {other} both follow the same one")
    end, tip = 0, bytes(DIGEST_LENGTH)
    while tip in following:
        statement = following.pop(tip)
        if statement.first < end:
            raise _Finding(f"{statement} covers again what an earlier one covers")
        yield statement
        end, tip = statement.after, _digest(statement.value)
    if following:
        raise _Finding(f"{min(following.values())} does not follow the ones before it: one is missing or was changed")


def _verify(place: Place, statement: Statement, keys: Mapping[str, AttestationKey]) -> None:
    """Signature, key and place of one statement. Raises `_Finding`."""
    key = keys.get(statement.kid)
    if key is None or key.gateway_id != place.gateway_id:
        raise _Finding(f"{statement} is signed with key id {statement.kid!r}, which is not a key of the gateway")
    if statement.recorded_at_us < key.valid_from_us or (
        key.valid_to_us is not None and statement.recorded_at_us >= key.valid_to_us
    ):
        raise _Finding(f"{statement} is signed with key id {statement.kid!r}, which was not valid when it came")
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.public_hex))
        public.verify(statement.signature, statement.value)
        said = codec.decode(statement.value)
    except (InvalidSignature, codec.CodecError):
        raise _Finding(f"{statement} does not have the signature of key id {statement.kid!r}") from None
    stated = (*place, statement.first, statement.after)
    names = (*Place._fields, "from_sequence", "to_sequence")
    if said.name != "Attestation" or tuple(said.datum[name] for name in names) != stated:
        raise _Finding(f"{statement} says another place than its row")


def _holds(statement: Statement, received: _Received) -> bool:
    """Whether its digest is that of what was received; False where events are missing. Raises `_Finding`."""
    hashes = received.hashes(statement.first, statement.after)
    if hashes is None:
        return False
    if _digest(hashes) != codec.decode(statement.value).datum["events_digest"]:
        raise _Finding(f"{statement} has another digest than the events that were received")
    return True


def _check_facts(facts: Iterable[Fact], received: _Received) -> None:
    """Raises `_Finding` for the first fact that is not what was received."""
    for fact in sorted(facts, key=itemgetter(0, 2)):
        hashed = received.hash(fact.sequence)
        if hashed is None:
            raise _Finding(f"{fact.name}: sequence {fact.sequence} was never received")
        if fact.hash is not None and hashed != fact.hash:
            raise _Finding(
                f"{fact.name}: its content hash {fact.hash.hex()} is not {hashed.hex()}, which was received as sequence"
                f" {fact.sequence}"
            )


def without(ranges: Iterable[tuple[int, int]], taken: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of `ranges` (in order, apart) is not in `taken` (in order)."""
    left = []
    holes = list(taken)
    for first, after in ranges:
        for start, end in holes[max(bisect_right(holes, (first,)) - 1, 0) :]:
            if start >= after:
                break
            if start > first:
                left.append((first, start))
            first = max(first, end)
        if first < after:
            left.append((first, after))
    return left


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_LENGTH).digest()
