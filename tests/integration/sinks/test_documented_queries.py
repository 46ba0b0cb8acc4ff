"""Every SQL example of docs/sql.md and docs/exceptions.md runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from support.facts import decision, fact

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "sql.md").read_text()
QUERIES = [
    query.strip()
    for block in re.findall(r"```sql\n(.*?)```", TEXT + (DOCS / "exceptions.md").read_text(), re.DOTALL)
    for query in block.split(";\n")
    if query.strip()
]


def test_there_are_examples() -> None:
    assert len(QUERIES) >= 6


@pytest.mark.parametrize("number", range(len(QUERIES)))
def test_an_example_runs(clickhouse_database: ClickHouseSettings, clickhouse_client: Client, number: int) -> None:
    sink = ClickHouseSink(clickhouse_database)
    sink.write("usage_facts", rows_to_arrow("usage_facts", [fact("r", 1, status="error"), fact("r", 2)]))
    sink.write("policy_facts", rows_to_arrow("policy_facts", [decision("d", "r", outcome="deny")]))
    query = QUERIES[number].removesuffix("FORMAT Vertical")
    clickhouse_client.query(query, {"gateway": "gw", "request": "r"})


def test_every_view_is_documented(clickhouse_client: Client) -> None:
    views = clickhouse_client.query("SELECT name FROM system.tables WHERE database = currentDatabase()").result_rows
    assert [name for (name,) in views if f"`{name}`" not in TEXT] == []
