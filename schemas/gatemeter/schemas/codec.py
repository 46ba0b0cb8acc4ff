"""Avro single-object encoding of everything on the wire, and the cutting of a batch into events.

A value is `C3 01`, the 8-byte CRC-64-AVRO fingerprint of the writer schema (little-endian), then the Avro body, so no
schema registry is needed: the writer schema is found by fingerprint among the released `.avsc` files. Source: Avro 1.11
specification, "Single-object encoding".
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

MAGIC: Final = b"\xc3\x01"
PREFIX_LENGTH: Final = 10
CONTENT_HASH_LENGTH: Final = 16
EVENT_TYPE: Final = "gatemeter.GatewayEvent"


class CodecError(ValueError):
    """A value that is not one of our records. `reason` is one of not_avro, unknown_fingerprint, undecodable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Schema:
    """One released `.avsc` file: `name` without namespace, `version`, and the schema three times.

    `raw` is the file, `parsed` fastavro's form of it, `wire` the same without logical types: times are read as integers
    of microseconds, so that no value of the wire is out of a Python type's range. `prefix` starts each value.
    """

    name: str
    version: int
    raw: dict[str, Any]
    parsed: Any
    wire: Any
    prefix: bytes


@dataclass(frozen=True)
class Decoded:
    """`datum` as Python values, read with the current reader schema of `name`; times are ints of microseconds, UTC."""

    name: str
    datum: dict[str, Any]


def _load(file_name: str, text: str) -> Schema:
    raw = json.loads(text)
    stem, version = file_name.removesuffix(".avsc").rsplit(".v", 1)
    del stem
    print_hex = fingerprint(to_parsing_canonical_form(raw), "CRC-64-AVRO")
    prefix = MAGIC + bytes.fromhex(print_hex)[::-1]
    parsed, wire = (fastavro.parse_schema(form, named_schemas={}) for form in (raw, _without_logical_types(raw)))
    return Schema(raw["name"], int(version), raw, parsed, wire, prefix)


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
    if isinstance(schema, list):
        return [_without_logical_types(entry) for entry in schema]
    return schema


def _load_all() -> tuple[Schema, ...]:
    folder = resources.files("gatemeter.schemas") / "avro"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".avsc")), key=lambda entry: entry.name)
    return tuple(_load(entry.name, entry.read_text("utf-8")) for entry in files)


ALL: Final[tuple[Schema, ...]] = _load_all()
BY_PREFIX: Final[dict[bytes, Schema]] = {schema.prefix: schema for schema in ALL}
CURRENT: Final[dict[str, Schema]] = {schema.name: schema for schema in sorted(ALL, key=lambda s: (s.name, s.version))}


def encode(name: str, datum: Mapping[str, Any]) -> bytes:
    """`datum` as a single object of the current schema `name`, e.g. "Control"; times may be ints of microseconds.

    Raises `ValueError` or `TypeError` where it misfits.
    """
    schema = CURRENT[name]
    out = io.BytesIO()
    out.write(schema.prefix)
    fastavro.schemaless_writer(out, schema.parsed, dict(datum), strict_allow_default=True)
    return out.getvalue()


def schema_of(value: bytes) -> Schema:
    """The writer schema of a value, by its prefix. Raises `CodecError` (not_avro, unknown_fingerprint)."""
    schema = BY_PREFIX.get(value[:PREFIX_LENGTH])
    if schema is not None:
        return schema
    if value[:2] != MAGIC or len(value) < PREFIX_LENGTH:
        raise CodecError("not_avro", f"a value starts with C3 01 and a fingerprint, got {value[:PREFIX_LENGTH].hex()}")
    raise CodecError("unknown_fingerprint", value[2:PREFIX_LENGTH][::-1].hex())


def decode(value: bytes) -> Decoded:
    """Reads a single object with the reader schema of its name. Raises `CodecError`; trailing bytes are an error."""
    schema = schema_of(value)
    body = io.BytesIO(value)
    body.seek(PREFIX_LENGTH)
    reader = CURRENT[schema.name]
    try:
        datum = fastavro.schemaless_reader(body, schema.wire, None if reader is schema else reader.wire)
    except Exception as error:  # fastavro raises a dozen unrelated types on foreign bytes
        # not the text of the error: fastavro puts memory addresses into it, and every worker must say the same
        raise CodecError("undecodable", f"{type(error).__name__} at byte {body.tell()}") from error
    if body.tell() != len(value):
        raise CodecError("undecodable", f"{len(value) - body.tell()} bytes after the end of the record")
    return Decoded(schema.name, datum)  # type: ignore[arg-type]


def _event_schema() -> Any:
    named: dict[str, Any] = {}
    fastavro.parse_schema(CURRENT["GatewayBatch"].raw, named_schemas=named)
    return {**named[EVENT_TYPE], "fields": named[EVENT_TYPE]["fields"][:-1]}


_EVENT_WITHOUT_HASH: Final = fastavro.parse_schema(_event_schema(), named_schemas={})
_ENVELOPE: Final = fastavro.parse_schema(
    {
        **CURRENT["GatewayBatch"].raw,
        "name": "GatewayBatchEnvelope",
        "fields": CURRENT["GatewayBatch"].raw["fields"][:-1],
    },
    named_schemas={},
)
EVENT_FIELDS: Final[tuple[str, ...]] = tuple(field["name"] for field in _event_schema()["fields"])


def encode_event(event: Mapping[str, Any]) -> bytes:
    """One item of `events`: the Avro body of `event` (without `content_hash`) followed by its BLAKE2b-128."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _EVENT_WITHOUT_HASH, dict(event))
    body = out.getvalue()
    return body + hashlib.blake2b(body, digest_size=CONTENT_HASH_LENGTH).digest()


def encode_batch(envelope: Mapping[str, Any], events: Sequence[bytes]) -> bytes:
    """A GatewayBatch from its envelope (all fields but `events`) and ready event bodies, written as one block."""
    out = io.BytesIO()
    out.write(CURRENT["GatewayBatch"].prefix)
    fastavro.schemaless_writer(out, _ENVELOPE, dict(envelope))
    if events:
        out.write(_long(len(events)))
        out.write(b"".join(events))
    out.write(b"\x00")
    return out.getvalue()


_ENVELOPES_ON_THE_WIRE: Final = {
    schema.prefix: fastavro.parse_schema(
        {**schema.wire, "name": "GatewayBatchEnvelope", "fields": schema.wire["fields"][:-1]}, named_schemas={}
    )
    for schema in ALL
    if schema.name == "GatewayBatch"
}


def decode_envelope(value: bytes) -> tuple[dict[str, Any], int]:
    """Of a GatewayBatch all fields but `events`, and the number of events in their first block, read no further.

    Raises `CodecError`; the events themselves may be damaged or cut off.
    """
    schema = schema_of(value)
    if schema.prefix not in _ENVELOPES_ON_THE_WIRE:
        raise CodecError("wrong_schema", f"expected GatewayBatch, got {schema.name}")
    body = io.BytesIO(value)
    body.seek(PREFIX_LENGTH)
    try:
        envelope = fastavro.schemaless_reader(body, _ENVELOPES_ON_THE_WIRE[schema.prefix], None)
        count = fastavro.schemaless_reader(body, "long", None)
    except Exception as error:  # as in decode
        raise CodecError("undecodable", f"{type(error).__name__} at byte {body.tell()}") from error
    return envelope, abs(count)  # type: ignore[return-value, arg-type]


def _long(value: int) -> bytes:
    encoded = (value << 1) ^ (value >> 63)
    out = bytearray()
    while encoded > 0x7F:
        out.append((encoded & 0x7F) | 0x80)
        encoded >>= 7
    out.append(encoded)
    return bytes(out)


def container(schema: Schema, bodies: Sequence[bytes]) -> bytes:
    """An Avro object container of one block: `bodies` (no prefixes) of one writer schema, for a columnar reader."""
    return b"".join((_container_header(schema), _long(len(bodies)), _long(sum(map(len, bodies))), *bodies, _SYNC))


_SYNC: Final = b"gatemeter-sync-0"
_HEADERS: dict[bytes, bytes] = {}


def _container_header(schema: Schema) -> bytes:
    header = _HEADERS.get(schema.prefix)
    if header is None:
        out = io.BytesIO()
        fastavro.writer(out, schema.parsed, [], codec="null", sync_marker=_SYNC)
        header = _HEADERS[schema.prefix] = out.getvalue()
    return header
