"""Whatever fits a contract comes back equal, by fastavro and by the columnar reader alike."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import fastavro
import polars as pl
import polars_avro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.schemas import codec
from support.avro_values import values

BATCH = codec.CURRENT["GatewayBatch"]
EVENT = next(field for field in BATCH.raw["fields"] if field["name"] == "events")["type"]["items"]


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    batch: dict[str, Any] = draw(values(BATCH.raw))
    for event in batch["events"]:
        event["content_hash"] = codec.encode_event(event)[-codec.CONTENT_HASH_LENGTH :]
    return batch


def wire(batch: dict[str, Any]) -> bytes:
    envelope = {name: value for name, value in batch.items() if name != "events"}
    return codec.encode_batch(envelope, [codec.encode_event(event) for event in batch["events"]])


@pytest.mark.parametrize("name", sorted(codec.CURRENT))
def test_a_single_object_decodes_to_what_was_encoded(name: str) -> None:
    @settings(max_examples=30)
    @given(values(codec.CURRENT[name].raw))
    def round_trip(datum: dict[str, Any]) -> None:
        assert codec.decode(codec.encode(name, datum)) == codec.Decoded(name, datum)

    round_trip()


@settings(max_examples=60)
@given(batches())
def test_a_batch_from_ready_events_equals_the_encoding_of_fastavro(batch: dict[str, Any]) -> None:
    value = wire(batch)
    assert codec.decode(value).datum == batch
    assert codec.decode(codec.encode("GatewayBatch", batch)).datum == batch
    if not batch["events"]:
        assert value == codec.encode("GatewayBatch", batch)


@settings(max_examples=60)
@given(values(EVENT))
def test_the_content_hash_covers_all_bytes_before_it(event: dict[str, Any]) -> None:
    encoded = codec.encode_event(event)
    body, claimed = encoded[: -codec.CONTENT_HASH_LENGTH], encoded[-codec.CONTENT_HASH_LENGTH :]
    assert claimed == hashlib.blake2b(body, digest_size=16).digest()
    named: dict[str, Any] = {}
    parsed = fastavro.parse_schema({**EVENT, "namespace": "gatemeter"}, named_schemas=named)
    read = fastavro.schemaless_reader(io.BytesIO(encoded), parsed, None)
    assert isinstance(read, dict)
    assert read["content_hash"] == claimed


@settings(max_examples=60, deadline=None)
@given(st.lists(batches(), min_size=1, max_size=4))
def test_the_columnar_reader_sees_every_field_as_fastavro_does(log: list[dict[str, Any]]) -> None:
    bodies = [wire(batch)[codec.PREFIX_LENGTH :] for batch in log]
    frame = polars_avro.read_avro(io.BytesIO(codec.container(BATCH, bodies)))
    assert frame.height == len(log)
    assert [plain(row) for row in numbers(frame).to_dicts()] == [plain(batch) for batch in log]


def numbers(frame: pl.DataFrame) -> pl.DataFrame:
    """Times as microseconds since 1970, categories as text, at any depth."""
    return frame.cast({name: flat(kind) for name, kind in frame.schema.items()})


def flat(kind: Any) -> Any:
    if isinstance(kind, pl.Datetime):
        assert kind.time_unit == "us"
        return pl.Int64
    if isinstance(kind, pl.Categorical | pl.Enum):
        return pl.String
    if isinstance(kind, pl.List):
        return pl.List(flat(kind.inner))
    if isinstance(kind, pl.Struct):
        return pl.Struct({field.name: flat(field.dtype) for field in kind.fields})
    return kind


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return value


@settings(max_examples=100)
@given(st.binary(max_size=64), st.integers(0, 200))
def test_foreign_bytes_end_in_a_codec_error_with_a_reason(junk: bytes, cut: int) -> None:
    prefixed = codec.CURRENT["Control"].prefix + junk
    for value in (junk, prefixed[:cut], prefixed):
        try:
            codec.decode(value)
        except codec.CodecError as error:
            assert error.reason in {"not_avro", "unknown_fingerprint", "undecodable"}
