"""A record whose schema no worker knew: quarantined, and admitted as it is once a release with the schema runs."""

from __future__ import annotations

import copy
import io
import json

import fastavro
import pytest

from gatemeter.schemas import codec
from support.logs import Gateway, Log, assert_conserved, build, collapse, new_fold, response, run, standard_view

SECOND = 1_000_000
VIEWS = {1: build(standard_view())}


def successor() -> codec.Schema:
    """A second version of GatewayBatch: one more field in the envelope, with a default."""
    raw = copy.deepcopy(codec.CURRENT["GatewayBatch"].raw)
    raw["fields"].insert(-1, {"name": "zone", "type": "string", "default": ""})
    return codec._load("gateway_batch.v2.avsc", json.dumps(raw))


@pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
def test_a_record_of_a_new_schema_is_admitted_by_its_replay_once_the_schema_is_there(
    columnar: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    log.control(VIEWS[1])
    gateway = Gateway(log)
    new = successor()
    datum = codec.decode(gateway.value(gateway.bodies([response("r1", 0)]), 0, 0)).datum
    body = io.BytesIO()
    fastavro.schemaless_writer(body, new.wire, {**datum, "zone": "eu-1"})
    value = new.prefix + body.getvalue()
    refused = log.append(value, gateway.headers(value), SECOND)
    fold = new_fold(VIEWS, columnar=columnar)
    outputs = run(fold, log.records)
    (row,) = collapse(outputs)["quarantine"].values()
    assert (row["reason"], row["epoch"]) == ("unknown_fingerprint", "")

    monkeypatch.setitem(codec.BY_PREFIX, new.prefix, new)
    log.again(refused, 2 * SECOND)
    upgraded = new_fold(VIEWS, columnar=columnar, checkpoint=outputs[-1].checkpoint)
    outputs += run(upgraded, log.records)
    tables = collapse(outputs)
    (fact,) = tables["usage_facts"].values()
    assert (fact["request_id"], fact["offset"], fact["epoch"]) == ("r1", 2, gateway.epoch)
    assert len(tables["quarantine"]) == 1
    assert_conserved(outputs[-1].checkpoint)
