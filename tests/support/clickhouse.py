"""A running embedded ClickHouse for a test session, and a new, migrated database for each test that asks.

The fixtures: `clickhouse` (session), `clickhouse_database` (settings) and `clickhouse_client` of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from gatemeter.sinks.local.launcher import LocalClickHouse, start
from gatemeter.sinks.migrations import migrate


class ClickHouse:
    """The embedded server of this session. `server.url`, `.user`, `.password` reach it from other processes too."""

    def __init__(self, server: LocalClickHouse) -> None:
        self.server = server

    def settings(self, database: str = "gatemeter") -> ClickHouseSettings:
        """Settings for a database that may not exist yet."""
        return ClickHouseSettings(self.server.url, self.server.user, self.server.password, database)

    def empty(self) -> ClickHouseSettings:
        """Settings of a new name; nothing is created."""
        return replace(self.settings(), database=f"test_{uuid.uuid4().hex[:12]}")

    def migrated(self) -> ClickHouseSettings:
        """A new database with all tables and views. Drop it with `drop` where many are made."""
        settings = self.empty()
        migrate(settings)
        return settings

    def drop(self, settings: ClickHouseSettings) -> None:
        """Forget a database."""
        client = connect(settings, database="default")
        client.command(f"DROP DATABASE IF EXISTS {settings.database}")
        client.close()


@pytest.fixture(scope="session")
def clickhouse() -> Iterator[ClickHouse]:
    """One embedded server with a random password for the whole session."""
    with start() as server:
        yield ClickHouse(server)


@pytest.fixture
def clickhouse_database(clickhouse: ClickHouse) -> Iterator[ClickHouseSettings]:
    """A migrated database of its own."""
    settings = clickhouse.migrated()
    yield settings
    clickhouse.drop(settings)


@pytest.fixture
def clickhouse_client(clickhouse_database: ClickHouseSettings) -> Iterator[Client]:
    """A clickhouse-connect client in the test's own database."""
    connected = connect(clickhouse_database)
    yield connected
    connected.close()
