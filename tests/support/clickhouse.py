"""A running embedded ClickHouse for a test session, and an empty, migrated database for each test that asks.

The fixtures: `clickhouse` (session), `clickhouse_database` (settings) and `clickhouse_client` of it. Migrating a
database takes seconds: one is migrated in a session, and the others are copies of it, object by object. Emptying one
takes no time: a test without other processes leaves its database to the next one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Final

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from gatemeter.sinks.local.launcher import LocalClickHouse, start
from gatemeter.sinks.migrations import migrate

# What a migrated database is made of, and what is in it beside that. Tables come before the views that read them.
_STATEMENTS: Final = """
SELECT create_table_query FROM system.tables WHERE database = currentDatabase() ORDER BY engine = 'View', name
"""
_OBJECTS: Final = """
SELECT (SELECT groupArray(digest) FROM (SELECT digest FROM migrations ORDER BY name)),
    groupArray((name, create_table_query))
FROM (SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase() ORDER BY name)
"""
_FILLED: Final = """
SELECT DISTINCT table FROM system.parts WHERE active AND database = currentDatabase() AND table != 'migrations'
"""


class ClickHouse:
    """The embedded server of this session. `server.url`, `.user`, `.password` reach it from other processes too."""

    def __init__(self, server: LocalClickHouse) -> None:
        self.server = server
        self._left: list[tuple[ClickHouseSettings, object]] = []
        self._model: tuple[str, list[str]] | None = None

    def settings(self, database: str = "gatemeter") -> ClickHouseSettings:
        """Settings for a database that may not exist yet."""
        return ClickHouseSettings(self.server.url, self.server.user, self.server.password, database)

    def empty(self) -> ClickHouseSettings:
        """Settings of a new name; nothing is created."""
        return replace(self.settings(), database=f"test_{uuid.uuid4().hex[:12]}")

    def migrated(self) -> ClickHouseSettings:
        """A new database with all tables and views. Drop it with `drop` where many are made."""
        settings = self.empty()
        if self._model is None:
            self._model = self._migrate_model()
        name, statements = self._model
        wanted = [statement.replace(name, settings.database) for statement in statements]
        with closing(connect(settings, database="default")) as client:
            client.command(f"CREATE DATABASE {settings.database}")
            client.raw_query(";\n".join(wanted))
            client.command(f"INSERT INTO {settings.database}.migrations SELECT * FROM {name}.migrations")
        with closing(connect(settings)) as client:
            made = [str(statement) for (statement,) in client.query(_STATEMENTS).result_rows]
        assert made == wanted, "a copy of a migrated database is not equal to it"
        return settings

    def _migrate_model(self) -> tuple[str, list[str]]:
        """The name of a database that was migrated as every other is, and the statements that make its objects."""
        settings = self.empty()
        migrate(settings)
        with closing(connect(settings)) as client:
            return settings.database, [str(statement) for (statement,) in client.query(_STATEMENTS).result_rows]

    def lent(self) -> tuple[ClickHouseSettings, object]:
        """A migrated database without a row, and what it is made of: one that a test has left, else a new one."""
        while self._left:
            settings, objects = self._left.pop()
            with closing(connect(settings)) as client:
                if client.query(_OBJECTS).result_rows == objects:
                    for (table,) in client.query(_FILLED).result_rows:
                        client.command(f"TRUNCATE TABLE {table}")
                    return settings, objects
            self.drop(settings)  # a test has changed its tables or views
        settings = self.migrated()
        with closing(connect(settings)) as client:
            return settings, client.query(_OBJECTS).result_rows

    def leave(self, settings: ClickHouseSettings, objects: object) -> None:
        """The next test may have it."""
        self._left.append((settings, objects))

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
def clickhouse_database(clickhouse: ClickHouse, request: pytest.FixtureRequest) -> Iterator[ClickHouseSettings]:
    """A migrated database without a row; a new one where workers write to it, whose last insert may come late."""
    if "kafka" in request.fixturenames:
        settings = clickhouse.migrated()
        yield settings
        clickhouse.drop(settings)
        return
    settings, objects = clickhouse.lent()
    yield settings
    clickhouse.leave(settings, objects)


@pytest.fixture
def clickhouse_client(clickhouse_database: ClickHouseSettings) -> Iterator[Client]:
    """A clickhouse-connect client in the test's own database."""
    connected = connect(clickhouse_database)
    yield connected
    connected.close()
