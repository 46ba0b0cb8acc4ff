"""The metadata topic as far as it was read: grows record by record, gives the view and the digest below any offset.

MetadataProblem
├── NeedsMetadata(offset)          the log has not been read that far: wait and ask again
└── MetadataRefused(offset, reason) one record has no effect; the log goes on
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gatemeter.processors.metadata.circles import check_no_circle
from gatemeter.processors.metadata.entries import Authority, MetadataError
from gatemeter.processors.metadata.records import entry_of
from gatemeter.processors.metadata.views import Entry, Gateway, View, build_view, keys_of
from gatemeter.schemas import signing
from gatemeter.schemas.codec import CodecError, Decoded, decode
from gatemeter.schemas.partitions import METADATA_TOPIC

DIGEST_LENGTH: Final = 32
CACHED_VIEWS: Final = 64


class MetadataProblem(Exception):
    """Anything this module raises."""


class NeedsMetadata(MetadataProblem):
    """The view or digest below `offset` needs records that have not been read yet."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"metadata is needed below offset {offset}")
        self.offset = offset


class MetadataRefused(MetadataProblem):
    """A record has no effect. It counts as read and is part of the digest."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"metadata record at offset {offset} refused: {reason}")
        self.offset = offset
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Published:
    """A metadata record that has an effect: who published what, and when (0 where that is not known)."""

    offset: int
    kid: str
    at_us: int
    record: Decoded


@dataclass(frozen=True, slots=True)
class _Record:
    offset: int
    entry: Entry | None
    kid: str
    at_us: int
    value: bytes


class MetadataLog:
    """The records of `gatemeter.metadata` in order. Thread-safe.

    `operator_keys`: key id → public Ed25519 key, 64 hex digits. All workers need the same ones: a record that one of
    them refuses and another accepts would split their views.
    """

    def __init__(self, operator_keys: Mapping[str, str], topic: str = METADATA_TOPIC) -> None:
        self.topic = topic
        self._operator_keys = dict(operator_keys)
        self._lock = threading.Lock()
        self._records: list[_Record] = []
        self._hasher = hashlib.blake2b(digest_size=DIGEST_LENGTH)
        self._digests = [self._hasher.digest()]
        self._gateways: dict[str, Gateway] = {}
        self._authorities: dict[tuple[str, str, int], Authority] = {}
        self._views: dict[int, View] = {}
        self._loaded_to = 0

    @property
    def loaded_to(self) -> int:
        """Next metadata offset to load."""
        return self._loaded_to

    def append(self, offset: int, value: bytes, headers: Mapping[str, bytes | None], at_us: int = 0) -> None:
        """Takes the next record; `at_us` is its timestamp.

        Raises `MetadataRefused` where it is unsigned, undecodable or out of range, `ValueError` for an offset that was
        read before.
        """
        with self._lock:
            if offset < self._loaded_to:
                raise ValueError(f"metadata offset {offset} was read before; next is {self._loaded_to}")
            reason, entry = "", None
            try:
                entry = self._read(value, {name: content or b"" for name, content in headers.items()})
            except (CodecError, MetadataError) as error:
                reason = str(error)
            kid = (headers.get(signing.KID_HEADER) or b"").decode("utf-8", "replace")
            self._records.append(_Record(offset, entry, kid, at_us, value))
            self._hasher.update(offset.to_bytes(8, "big") + len(value).to_bytes(8, "big") + value)
            self._digests.append(self._hasher.digest())
            self._loaded_to = offset + 1
        if reason:
            raise MetadataRefused(offset, reason)

    def _read(self, value: bytes, headers: Mapping[str, bytes]) -> Entry:
        if not signing.signature_is_valid(self._operator_keys, headers, value):
            kid = headers.get(signing.KID_HEADER, b"").decode("utf-8", "replace")
            raise MetadataError(f"not signed by a known operator (key id {kid!r})")
        entry = entry_of(decode(value))
        if isinstance(entry, Gateway):
            gateways = {**self._gateways, entry.gateway_id: entry}
            keys_of(gateways)
            self._gateways = gateways
        if isinstance(entry, Authority):
            identity = (entry.gateway_id, entry.route, entry.effective_from_us)
            check_no_circle(entry, [other for key, other in self._authorities.items() if key != identity])
            self._authorities[identity] = entry
        return entry

    def view(self, offset: int) -> View:
        """View `offset`: what the records below it say; the same object each time. Raises `NeedsMetadata`."""
        with self._lock:
            count = self._count_below(offset)
            view = self._views.get(offset)
            if view is None:
                entries = [record.entry for record in self._records[:count] if record.entry is not None]
                view = build_view(entries, offset=offset, digest=self._digests[count])
                if len(self._views) >= CACHED_VIEWS:
                    self._views.pop(next(iter(self._views)))
                self._views[offset] = view
            return view

    def digest(self, offset: int) -> bytes:
        """BLAKE2b-256 over the records below `offset`: of each its offset, length (8 bytes each) and value."""
        with self._lock:
            return self._digests[self._count_below(offset)]

    def published(self, first: int, after: int) -> list[Published]:
        """What the records of [first, after) say, without those that have no effect. Raises `NeedsMetadata`."""
        with self._lock:
            records = self._records[self._count_below(first) : self._count_below(after)]
        return [
            Published(record.offset, record.kid, record.at_us, decode(record.value))
            for record in records
            if record.entry is not None
        ]

    def _count_below(self, offset: int) -> int:
        if offset > self._loaded_to:
            raise NeedsMetadata(offset)
        return bisect_left(self._records, offset, key=lambda record: record.offset)
