"""Released contracts are frozen, and every version that was ever released can still be read."""

from __future__ import annotations

import json
import re
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings

from gatemeter.schemas import codec
from support.avro_values import values
from support.frozen import CONTRACTS, digests, frozen


def test_no_contract_differs_from_its_frozen_digest() -> None:
    now, then = digests(), frozen()
    changed = sorted(name for name, digest in then.items() if now.get(name) != digest)
    assert not changed, f"{changed}: a released contract never changes; add a new version instead"
    assert sorted(set(now) - set(then)) == [], "new contracts must be frozen: make refreeze"


@pytest.mark.parametrize("schema", codec.ALL, ids=lambda schema: f"{schema.name}.v{schema.version}")
def test_every_version_is_readable_by_the_current_reader(schema: codec.Schema) -> None:
    @settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])  # a batch has many fields
    @given(values(schema.raw))
    def readable(datum: dict[str, Any]) -> None:
        body = bytearray()
        fastavro.schemaless_writer(_Into(body), schema.parsed, datum)
        assert codec.decode(schema.prefix + bytes(body)).name == schema.name

    readable()


class _Into:
    def __init__(self, body: bytearray) -> None:
        self.body = body

    def write(self, data: bytes) -> int:
        self.body.extend(data)
        return len(data)


def test_a_reader_with_a_new_defaulted_field_reads_the_old_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    old = codec.CURRENT["PolicyPrices"]
    grown = {**old.raw, "fields": [*old.raw["fields"], {"name": "note", "type": ["null", "string"], "default": None}]}
    new = codec._load("policy_prices.v2.avsc", json.dumps(grown))
    value = codec.encode("PolicyPrices", values_example(old.raw))
    monkeypatch.setitem(codec.CURRENT, "PolicyPrices", new)
    monkeypatch.setitem(codec.BY_PREFIX, new.prefix, new)
    read = codec.decode(value)
    assert read.datum["note"] is None
    assert new.prefix != old.prefix


def values_example(schema: dict[str, Any]) -> dict[str, Any]:
    samples = {"string": "x", "long": 1, "int": 1, "boolean": True, "bytes": b"x"}
    return {field["name"]: _sample(field["type"], samples) for field in schema["fields"]}


def _sample(kind: Any, samples: dict[str, Any]) -> Any:
    if isinstance(kind, list):
        return None
    if isinstance(kind, str):
        return samples[kind]
    return {"array": [], "map": {}}.get(kind["type"], samples.get(kind["type"]))


def test_files_are_named_after_their_version_and_versions_have_no_hole() -> None:
    versions: dict[str, list[int]] = {}
    for file in CONTRACTS.glob("avro/*.avsc"):
        match = re.fullmatch(r"([a-z_]+)\.v([1-9][0-9]*)\.avsc", file.name)
        assert match, file.name
        versions.setdefault(match[1], []).append(int(match[2]))
    for name, numbers in versions.items():
        assert sorted(numbers) == list(range(1, len(numbers) + 1)), name


def test_no_two_schemas_share_a_fingerprint() -> None:
    assert len(codec.BY_PREFIX) == len(codec.ALL)


def test_only_types_that_the_columnar_reader_takes_are_used() -> None:
    def check(kind: Any, path: str) -> None:
        if isinstance(kind, list):
            assert kind[0] == "null", f"{path}: the only union is [null, X]"
            assert len(kind) == 2, f"{path}: the only union is [null, X]"
            check(kind[1], path)
        elif isinstance(kind, dict):
            assert kind["type"] in {"record", "enum", "array", "fixed", "long"}, path
            for field in kind.get("fields", ()):
                check(field["type"], f"{path}.{field['name']}")
            if kind["type"] == "array":
                check(kind["items"], path)
        else:
            assert kind in {"string", "bytes", "boolean", "int", "long"}, path

    batch = codec.CURRENT["GatewayBatch"].raw
    check(batch, "GatewayBatch")
    assert batch["fields"][-1]["name"] == "events"
    assert batch["fields"][-1]["type"]["items"]["fields"][-1]["name"] == "content_hash"
