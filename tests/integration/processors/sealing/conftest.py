"""A database whose hours can be sealed."""

from __future__ import annotations

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.sealing import Hours


@pytest.fixture
def hours(clickhouse_database: ClickHouseSettings, clickhouse_client: Client) -> Hours:
    return Hours(clickhouse_database, clickhouse_client)
