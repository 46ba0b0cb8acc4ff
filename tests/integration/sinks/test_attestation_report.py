"""The check of attestations reads what it needs from ClickHouse, below the checkpoint, and names what it finds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from gatemeter.sinks.reports.attestations import AttestationKey, Attestations, attestations, keys_from
from support.attested import KEY, KEYS, SECOND, Rows, World, in_us
from support.logs import request, response

TABLES = ("usage_facts", "policy_facts", "gateway_epochs", "attestations", "ingest_batches")


@pytest.fixture
def check(clickhouse_database: ClickHouseSettings, clickhouse_client: Client) -> Callable[[Rows], Attestations]:
    sink = ClickHouseSink(clickhouse_database)

    def write_and_check(rows: Rows) -> Attestations:
        for table in TABLES:
            sink.write(table, rows_to_arrow(table, [in_us(row) for row in rows[table]]))
        return attestations(clickhouse_client, KEYS)

    return write_and_check


def test_what_was_attested_received_and_charged_agrees(check: Callable[[Rows], Attestations]) -> None:
    world = World()
    world.send([request("r-3", 5 * SECOND), response("r-3", 6 * SECOND)], 6 * SECOND)
    rows = world.rows()
    rows["gateway_epochs"] *= 2  # a worker that was killed writes runs again
    rows["usage_facts"].append({**rows["usage_facts"][0], "request_id": "in-flush", "sequence": 7, "offset": 1000})
    result = check(rows)
    (found,) = result.epochs
    assert result.ok
    assert (found.place.gateway_id, found.place.epoch, found.place.partition) == ("gw-a", world.gateway.epoch, 0)
    assert (found.received, found.attested, found.statements, found.facts) == (7, 5, 2, 4)
    assert (found.unattested, found.missing) == (((5, 7),), ())


def test_a_changed_fact_and_one_of_an_epoch_that_nobody_heard_are_named(
    check: Callable[[Rows], Attestations],
) -> None:
    rows = World().rows()
    rows["usage_facts"][1]["response_hash"] = bytes(16).hex()
    rows["usage_facts"].append({**rows["usage_facts"][0], "request_id": "made-up", "epoch": "9-9-0000000000000009"})
    known, unheard = check(rows).epochs
    assert known.problem.startswith("attempt r-2/1: its content hash 00000000000000000000000000000000 is not")
    assert unheard.problem == "attempt made-up/1: sequence 1 was never received"


def test_nothing_received_is_nothing_to_object_to(clickhouse_client: Client) -> None:
    assert attestations(clickhouse_client, {}).epochs == ()


def test_keys_are_read_from_what_gateways_list_prints() -> None:
    entry = {"gateway_id": "gw-a", "kid": "k", "public_key": KEY.public_hex, "valid_to": None}
    keys = keys_from([{**entry, "valid_from": "2026-01-01T00:00:00.000001Z"}])
    assert keys == {"k": AttestationKey("gw-a", KEY.public_hex, 1_767_225_600_000_001, None)}
