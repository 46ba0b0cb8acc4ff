"""What is staged is without effect; what is committed counts once, with exactly the rows that the COMMIT names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.rows import RowKey
from gatemeter.processors.corrections.runs import (
    NO_LIMIT_US,
    RunDiffers,
    commit_of,
    commits_after,
    commits_known,
    committed_in,
    replacements_of,
    staged_rows,
)
from gatemeter.processors.corrections.staging import stage
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from support.corrections import RUN, commit_row, correction, replacing
from support.facts import HOUR_US, NOON_US
from support.mutations import mutate

LATER = "20260301T130000Z-00000000000000bb"


@pytest.fixture
def sink(clickhouse_database: ClickHouseSettings) -> ClickHouseSink:
    return ClickHouseSink(clickhouse_database)


@pytest.fixture
def write(sink: ClickHouseSink) -> Callable[..., None]:
    def write_rows(table: str, *rows: dict[str, Any]) -> None:
        sink.write(table, rows_to_arrow(table, list(rows)))

    return write_rows


Write = Callable[..., None]


def test_staged_rows_count_only_where_their_run_was_committed(
    clickhouse_client: Client, sink: ClickHouseSink, write: Write
) -> None:
    rows = [correction(0), replacing("r1", 1, charge=None, price_status="unpriced"), correction(2, charge=-7)]
    staged = stage(sink, RUN, rows)
    stage(sink, LATER, [correction(0, LATER)])
    assert list(committed_in(clickhouse_client, NOON_US)) == []
    write("commits", commit_row(staged))
    assert list(committed_in(clickhouse_client, NOON_US)) == rows
    assert list(committed_in(clickhouse_client, NOON_US + HOUR_US)) == []
    assert list(staged_rows(clickhouse_client, LATER)) == [correction(0, LATER)]


def test_staging_a_run_twice_and_committing_it_twice_changes_nothing(
    clickhouse_client: Client, sink: ClickHouseSink, write: Write
) -> None:
    rows = [correction(entry) for entry in range(3)]
    staged = stage(sink, RUN, rows)
    assert stage(sink, RUN, rows) == staged
    write("commits", commit_row(staged, offset=7, posted_hour=NOON_US))
    write("commits", commit_row(staged, offset=9, posted_hour=NOON_US + HOUR_US))
    assert list(committed_in(clickhouse_client, NOON_US)) == rows
    assert list(committed_in(clickhouse_client, NOON_US + HOUR_US)) == []
    found = commit_of(clickhouse_client, RUN)
    assert found is not None and found.offset == 7
    assert commits_known(clickhouse_client) == 1
    assert commits_after(clickhouse_client, 0) == [found]
    assert commits_after(clickhouse_client, 1) == []
    assert commit_of(clickhouse_client, LATER) is None


@pytest.mark.parametrize("damage", ["a row more", "a row less", "a row changed", "an entry twice"])
def test_a_run_that_is_not_what_its_commit_names_is_an_error_that_names_it(
    clickhouse_client: Client, sink: ClickHouseSink, write: Write, damage: str
) -> None:
    rows = [correction(0), correction(1)]
    staged = stage(sink, RUN, rows)
    write("commits", commit_row(staged))
    if damage == "a row more":
        write("corrections", correction(2).table_row())
    elif damage == "an entry twice":
        write("corrections", correction(1, charge=500).table_row())
    else:
        mutate(clickhouse_client, "corrections", "DELETE WHERE entry = 1")
        if damage == "a row changed":
            write("corrections", correction(1, charge=500).table_row())
    with pytest.raises(RunDiffers, match=f"run {RUN}"):
        list(committed_in(clickhouse_client, NOON_US))


def test_of_several_replacements_of_a_row_the_last_committed_is_in_force(
    clickhouse_client: Client, sink: ClickHouseSink, write: Write
) -> None:
    first = stage(sink, LATER, [replacing("r1", 0, LATER, charge=1), replacing("r'2\\", 1, LATER)])
    second = stage(sink, RUN, [replacing("r1", charge=2), replacing("r1", 1, charge=3, response_hash="other")])
    write("commits", commit_row(first, offset=7), commit_row(second, offset=9, posted_hour=NOON_US + HOUR_US))

    def charges(through_us: int) -> dict[RowKey, int | None]:
        asked = {"ids": ["r1", "r'2\\", "r3"]}
        found = replacements_of(clickhouse_client, through_us, "SELECT 'gw', arrayJoin({ids:Array(String)})", asked)
        return {replacement.row.key: replacement.row.charge for replacement in found}

    key, odd = replacing("r1").key, replacing("r'2\\").key
    other = replacing("r1", response_hash="other").key
    assert charges(NOON_US - HOUR_US) == {}
    assert charges(NOON_US) == {key: 1, odd: 5}
    assert charges(NO_LIMIT_US) == {key: 2, odd: 5, other: 3}
    in_order = replacements_of(clickhouse_client, NO_LIMIT_US, "SELECT 'gw', {id:String}", {"id": "r1"})
    assert [found.row.charge for found in in_order] == [1, 2, 3]
