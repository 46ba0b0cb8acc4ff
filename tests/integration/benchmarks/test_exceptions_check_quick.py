"""The short form of `make exceptions-check`: one seed, of which all and only what is planted is found."""

from __future__ import annotations

import sys
from pathlib import Path

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.clickhouse import ClickHouseSettings
from gatemeter.sinks.exceptions.kinds import KINDS

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.exceptions_check.scoring import Score, check


def test_all_and_only_what_is_planted_is_found(
    clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    score = Score()
    check(clickhouse_database, 7, score, lambda text: None)
    assert (score.wrong, score.missed) == ([], [])
    assert {kind for kind in KINDS if score.right[kind]} == set(KINDS)
    told = clickhouse_client.query(
        "SELECT countIf(length(request_ids) > 100), countIf(requests = 0), countIf(seen = '' OR expected = ''), "
        "countIf(cost IS NOT NULL AND currency = ''), groupUniqArray(state) FROM exception_list"
    ).result_rows
    assert told == [(0, 0, 0, 0, ["open"])]
    owner = "SELECT DISTINCT owner FROM exception_list WHERE credential_fingerprint = 'fp-gone'"
    assert clickhouse_client.query(owner).result_rows == [("tony",)]
