"""One set of books for all tests of statements, which only read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import typer
from typer.testing import CliRunner, Result

from gatemeter.cli.statement.command import statement
from gatemeter.sinks.clickhouse import connect
from support.clickhouse import ClickHouse
from support.statements import Books

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def books(clickhouse: ClickHouse) -> Iterator[Books]:
    settings = clickhouse.migrated()
    with closing(connect(settings)) as client:
        yield Books(settings, client)
    clickhouse.drop(settings)


@pytest.fixture(scope="session")
def hand_out(books: Books) -> Run:
    """`gatemeter statement` over the books."""
    app = typer.Typer()
    app.command()(statement)

    def run(*words: str, exit_code: int = 0) -> Result:
        settings = books.settings
        where = ["--clickhouse-url", settings.url, "--clickhouse-user", settings.user]
        where += ["--clickhouse-password", settings.password, "--clickhouse-database", settings.database]
        result = CliRunner().invoke(app, [*words, *where])
        assert result.exit_code == exit_code, (result.output, result.exception)
        return result

    return run
