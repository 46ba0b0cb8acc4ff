"""Rows that are changed or deleted where nobody may: ClickHouse's mutations, waited for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clickhouse_connect.driver.client import Client

from support.processes import eventually


def mutate(client: Client, table: str, change: str, parameters: Mapping[str, Any] | None = None) -> None:
    """`ALTER TABLE table change`; returns when no part of the table is as it was before.

    A table that has been idle for long looks for work rarely, and may not see a mutation that comes while it looks:
    `mutations_sync`, which is on by default, then waits for minutes. So it is asked to look again.
    """
    client.command(f"ALTER TABLE {table} {change}", parameters, settings={"mutations_sync": 0})
    unfinished = (
        "SELECT latest_fail_reason FROM system.mutations"
        " WHERE database = currentDatabase() AND table = {table:String} AND NOT is_done"
    )
    reasons: list[str] = []

    def is_done() -> bool:
        reasons[:] = [reason for (reason,) in client.query(unfinished, {"table": table}).result_rows]
        if reasons:
            client.command(f"SYSTEM START MERGES {table}")
        return not reasons

    eventually(is_done, f"the mutation of {table} is done")
