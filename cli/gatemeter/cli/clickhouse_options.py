"""What the commands that speak to ClickHouse share: their options, the connection, and errors as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from clickhouse_connect.driver.client import Client

from gatemeter.cli.one_line import one_line_errors_of
from gatemeter.cli.screen import screen
from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from gatemeter.sinks.migrations import MigrationChanged
from gatemeter.sinks.port import SinkError

Url = Annotated[
    str, typer.Option("--clickhouse-url", envvar="GATEMETER_CLICKHOUSE_URL", help="http://HOST:PORT or https://….")
]
User = Annotated[str, typer.Option("--clickhouse-user", envvar="GATEMETER_CLICKHOUSE_USER", help="User.")]
Password = Annotated[
    str,
    typer.Option(
        "--clickhouse-password",
        envvar="GATEMETER_CLICKHOUSE_PASSWORD",
        show_default=False,
        help="Password; better given by the variable or a file, a command line is seen by others.",
    ),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--clickhouse-password-file",
        envvar="GATEMETER_CLICKHOUSE_PASSWORD_FILE",
        help="File whose first line is the password.",
    ),
]
Database = Annotated[
    str, typer.Option("--clickhouse-database", envvar="GATEMETER_CLICKHOUSE_DATABASE", help="Database.")
]

DEFAULT_URL: Final = "http://127.0.0.1:8123"
DEFAULT_USER: Final = "gatemeter"
DEFAULT_DATABASE: Final = "gatemeter"

console = screen()


class OptionError(Exception):
    """An option has a value that is not accepted; the text names it and what is."""


FAILURES: Final = (OptionError, SinkError, MigrationChanged)
one_line_errors = one_line_errors_of({2: FAILURES})


def settings(url: str, user: str, password: str, password_file: Path | None, database: str) -> ClickHouseSettings:
    """The settings that the options give. Raises `OptionError`."""
    if password and password_file is not None:
        raise OptionError("--clickhouse-password-file: must not be given beside --clickhouse-password")
    if password_file is not None:
        try:
            password = password_file.read_text("utf-8").split("\n", 1)[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"--clickhouse-password-file: must be a readable text file: {error}") from error
    try:
        return ClickHouseSettings(url, user, password, database)
    except ValueError as error:
        raise OptionError(f"--clickhouse-{error}") from error


def patient(where: ClickHouseSettings) -> ClickHouseSettings:
    """The same for a command that reads months: a query may take half an hour."""
    return replace(where, request_timeout=timedelta(minutes=30))


@contextmanager
def reading(
    url: str, user: str, password: str, password_file: Path | None, database: str, *, patiently: bool = False
) -> Iterator[Client]:
    """A connection to ClickHouse, closed at the end; `patiently`: for reading months. Raises `OptionError`."""
    where = settings(url, user, password, password_file, database)
    client = connect(patient(where) if patiently else where)
    try:
        yield client
    finally:
        client.close()
