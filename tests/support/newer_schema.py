"""A record that only a later release can read: a second version of GatewayBatch."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import fastavro
import pytest

from gatemeter.schemas import codec
from support.logs import Gateway


def successor() -> codec.Schema:
    """A second version of GatewayBatch: one more field in the envelope, with a default."""
    raw = copy.deepcopy(codec.CURRENT["GatewayBatch"].raw)
    raw["fields"].insert(-1, {"name": "zone", "type": "string", "default": ""})
    return codec._load("gateway_batch.v2.avsc", json.dumps(raw))


def newer_value(gateway: Gateway, events: Sequence[Mapping[str, Any]], new: codec.Schema) -> bytes:
    """A batch of these events from sequence 0 on, as an emitter of that later release writes it."""
    datum = codec.decode(gateway.value(gateway.bodies(events), 0, 0)).datum
    body = io.BytesIO()
    fastavro.schemaless_writer(body, new.wire, {**datum, "zone": "eu-1"})
    return new.prefix + body.getvalue()


def install(new: codec.Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on this process is that later release."""
    envelope = {**new.wire, "name": "GatewayBatchEnvelope", "fields": new.wire["fields"][:-1]}
    monkeypatch.setitem(codec.BY_PREFIX, new.prefix, new)
    monkeypatch.setitem(codec._ENVELOPES_ON_THE_WIRE, new.prefix, fastavro.parse_schema(envelope, named_schemas={}))
