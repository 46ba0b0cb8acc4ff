"""What a seal's id covers, and seal records as they are read: for sealers, for audits, and for whoever checks a proof.

`seal_id` = BLAKE2b-256 over the Avro body of (posted_hour, previous, leaves_root, entries_root, open_period,
partitions): two sealers that see the same rows from the same tip make the same id.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

import fastavro

from gatemeter.schemas import codec, merkle

HOUR_US: Final = 3_600_000_000
NO_SEAL: Final = bytes(merkle.HASH_LENGTH)
"""`previous` of the first seal."""

LEAF_SCHEMAS: Final = {
    "usage": "UsageLeaf",
    "decision": "PolicyLeaf",
    "correction": "Correction",
    "entry": "LedgerEntry",
}
"""Kind of a leaf → the schema of its body; `entry`: the leaves of the tree of ledger entries."""


_DIGEST: Final = {"type": "fixed", "name": "Digest", "size": merkle.HASH_LENGTH}
_PARTITION: Final = {
    "type": "record",
    "name": "SealedPartition",
    "fields": [{"name": "topic", "type": "string"}, {"name": "partition", "type": "int"}],
}
_COVERED: Final = {
    "posted_hour": "long",
    "previous": _DIGEST,
    "leaves_root": "Digest",
    "entries_root": "Digest",
    "open_period": "string",
    "partitions": {"type": "array", "items": _PARTITION},
}
_IDENTITY: Final = fastavro.parse_schema(
    {
        "type": "record",
        "name": "SealIdentity",
        "fields": [{"name": name, "type": kind} for name, kind in _COVERED.items()],
    },
    named_schemas={},
)


def seal_id(seal: Mapping[str, Any]) -> bytes:
    """The id that a seal with these fields has; times are ints of microseconds."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _IDENTITY, {name: seal[name] for name in _COVERED})
    return merkle.digest(out.getvalue())


def leaf_fields(kind: str) -> tuple[str, ...]:
    """Names of what a leaf of this kind says, in the order of its bytes."""
    return tuple(field["name"] for field in codec.CURRENT[LEAF_SCHEMAS[kind]].raw["fields"])


def leaf_body(kind: str, fields: Mapping[str, Any]) -> bytes:
    """The Avro body whose hash is a leaf of this kind; amounts in pico, times in microseconds, other fields ignored.

    Raises `ValueError` or `TypeError` where a field misfits, `KeyError` where one is missing, or for another kind.
    """
    datum = {name: fields[name] for name in leaf_fields(kind)}
    return codec.encode(LEAF_SCHEMAS[kind], datum)[codec.PREFIX_LENGTH :]
