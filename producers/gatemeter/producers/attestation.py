"""What a gateway says it sent, signed by a key that no processor has: the statements that heartbeats carry.

The MAC of a batch is shared with the workers, so it proves nothing to a third party. An attestation does: Ed25519 over
(epoch, partition, [from, to), digest of the events' content hashes, digest of the attestation before it). The digest
depends on the events and their order alone, not on how they were cut into batches. It is kept event by event in the
publishing thread; the gateway's call never waits for it.

Only the process that made an epoch attests for it. What a process dies with after its last attestation is sent by its
heir and stays unattested, and audits list it so. Where the spool itself is damaged, sequences are missing; then a
statement ends before the hole and the next one begins behind it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gatemeter.producers.events import now_us
from gatemeter.schemas import codec
from gatemeter.schemas.signing import OperatorKey

DIGEST_LENGTH: Final = 32
_FIRST: Final = bytes(DIGEST_LENGTH)


def _digest(data: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=DIGEST_LENGTH)


@dataclass(slots=True)
class _Partition:
    """Where the statements of one partition stand: [first, after) is read and not yet attested."""

    previous: bytes = _FIRST
    first: int = 0
    after: int = 0
    events: hashlib.blake2b = field(default_factory=_digest)
    cut: list[tuple[int, int, bytes]] = field(default_factory=list)
    """Ranges that a hole ended, with their digests."""


class Attestor:
    """The attestations of one epoch. Only the publishing thread calls it."""

    def __init__(
        self, key: OperatorKey, gateway_id: str, epoch: str, topic: str, *, clock: Callable[[], int] = now_us
    ) -> None:
        self._key = key
        self._who = {"gateway_id": gateway_id, "epoch": epoch, "topic": topic}
        self._clock = clock
        self._partitions: dict[int, _Partition] = {}

    def add(self, partition: int, sequence: int, content_hash: bytes) -> None:
        """The next event on its way out."""
        state = self._partitions.get(partition)
        if state is None:
            state = self._partitions[partition] = _Partition()
        if sequence != state.after:
            self._cut(state, sequence)
        state.events.update(content_hash)
        state.after = sequence + 1

    @staticmethod
    def _cut(state: _Partition, sequence: int) -> None:
        if state.after > state.first:
            state.cut.append((state.first, state.after, state.events.digest()))
        state.events = _digest()
        state.first = state.after = sequence

    def envelopes(self, partition: int, *, closing: bool = False) -> list[bytes]:
        """Signed statements over what came since the last call; usually one, none where nothing came.

        `closing`: one in any case, so that the end of the epoch is attested.
        """
        state = self._partitions.get(partition)
        if state is None:
            state = self._partitions[partition] = _Partition()
        ranges, state.cut = state.cut, []
        if state.after > state.first or (closing and not ranges):
            ranges.append((state.first, state.after, state.events.digest()))
            state.events, state.first = _digest(), state.after
        return [self._envelope(state, partition, *each) for each in ranges]

    def _envelope(self, state: _Partition, partition: int, first: int, after: int, events: bytes) -> bytes:
        statement = {
            **self._who,
            "partition": partition,
            "from_sequence": first,
            "to_sequence": after,
            "previous": state.previous,
            "events_digest": events,
            "attested_at": self._clock(),
        }
        value = codec.encode("Attestation", statement)
        state.previous = _digest(value).digest()
        entry = {"kid": self._key.kid, "attestation": value, "signature": self._key.sign(value)}
        return codec.encode("AttestationEnvelope", entry)
