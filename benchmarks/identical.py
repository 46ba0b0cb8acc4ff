"""Whether two contenders wrote the same rows, compared in ClickHouse after their duplicates have collapsed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.clickhouse import ClickHouseSettings, connect

TABLES: Final = {
    "usage_facts": "posted_hour, gateway_id, request_id, attempt, response_hash",
    "policy_facts": "posted_hour, gateway_id, decision_id, content_hash",
    "usage_windows": "window_start, gateway_id, tenant_id, app_id, workload_id, provider, model, purpose,"
    " evidence_grade, usage_source, policy_id, outcome, currency, partition, slice",
}
"""Tables that are compared whole, and what their rows are told apart by."""

_TYPES: Final[dict[type, str]] = {int: "Int64", datetime: "DateTime64(6, 'UTC')"}


class Different(RuntimeError):
    """Two contenders disagree; the text shows the first row that only one of them has."""


def check(one: ClickHouseSettings, other: ClickHouseSettings, names: tuple[str, str]) -> int:
    """Number of facts that both wrote alike in every column. Raises `Different`."""
    client = connect(one)
    try:
        for table, key in TABLES.items():
            for first, second, name in ((one, other, names[0]), (other, one, names[1])):
                only = client.query(
                    f"SELECT * FROM (SELECT * FROM {first.database}.{table} FINAL"
                    f" EXCEPT SELECT * FROM {second.database}.{table} FINAL) ORDER BY {key} LIMIT 1"
                )
                for row in only.named_results():
                    raise Different(f"{table}: only {name} has {row}; {_other(client, second, table, key, row)}")
        facts = client.query(f"SELECT count() FROM {one.database}.usage_facts FINAL").result_rows[0][0]
    finally:
        client.close()
    if not facts:
        raise Different("no facts were written")
    return int(facts)


def _other(client: Client, database: ClickHouseSettings, table: str, key: str, row: dict[str, Any]) -> str:
    """What the other has under the same key, column by column."""
    names = [name.strip() for name in key.split(",")]
    condition = " AND ".join(f"{name} = {{{name}:{_TYPES.get(type(row[name]), 'String')}}}" for name in names)
    query = f"SELECT * FROM {database.database}.{table} FINAL WHERE {condition}"
    found = list(client.query(query, {name: row[name] for name in names}).named_results())
    if not found:
        return "the other has no row of that key"
    columns = {name: value for name, value in found[0].items() if value != row[name]}
    return f"the other has {columns}"
