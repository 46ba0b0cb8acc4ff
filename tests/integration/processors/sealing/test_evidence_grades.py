"""Grades A, B and C from the log to the ledger: who pays for what, the same before and after the seal."""

from __future__ import annotations

import pytest

from gatemeter.sinks.arrow import rows_to_arrow
from support.facts import exact
from support.logs import START_US, Gateway, Log, build, completed, new_fold, response, standard_view
from support.sealing import Hours

HOUR_US = 3_600_000_000
VIEW = build(standard_view(grace_us=0).gateway("gw-b", "b-1", role="corroborating"))
LINES = (
    "SELECT request_id, evidence_grade, provider_cost, markup, charge, absorbed, absorbed_to FROM charge_lines"
    " ORDER BY request_id"
)


@pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
def test_a_pays_b_pays_where_its_plan_says_so_and_c_is_no_line(hours: Hours, columnar: bool) -> None:
    log = Log()
    log.control(VIEW)
    charging, agent = Gateway(log), Gateway(log, "gw-b", "b-1")
    claimed = {"identity_source": "header_claim"}
    charging.send(
        [
            response("verified", 0),
            response("claimed, accepted", 0, tenant_id="globex", **claimed),
            response("claimed, refused", 0, **claimed),
        ],
        0,
    )
    agent.send([response("seen", 0)], 0)
    charging.send([], HOUR_US)
    output = completed(new_fold({1: VIEW}, columnar=columnar).fold(log.records), log.records)
    for table, rows in output.tables.items():
        hours.sink.write(table, rows)
    assert output.checkpoint is not None
    row = output.checkpoint | {"written_at": START_US}
    hours.sink.write("ingest_batches", rows_to_arrow("ingest_batches", [row]))
    cost = exact(100 * 2_500_000 + 20 * 10_000_000)
    nothing = exact(0)
    expected = [
        ("claimed, accepted", "B", cost, exact(14_999_850), cost + exact(14_999_850), nothing, ""),
        ("claimed, refused", "B", cost, nothing, nothing, cost, "unallocated"),
        ("verified", "A", cost, exact(67_500_000), cost + exact(67_500_000), nothing, ""),
    ]
    assert [tuple(line) for line in hours.client.query(LINES).result_rows] == expected
    assert [seal.posted_hour_us for seal in hours.seal().hours] == [START_US]
    assert [tuple(line) for line in hours.client.query(LINES).result_rows] == expected
    booked = hours.ledger("request_id, evidence_grade, charge, absorbed_to")
    assert sorted(booked) == sorted((line[0], line[1], line[4], line[6]) for line in expected)
    billed = "SELECT sum(charge), sum(absorbed), sum(provider_cost) FROM chargeback_hourly"
    assert hours.client.query(billed).result_rows == [(expected[0][4] + expected[2][4], cost, exact(3 * 450_000_000))]
