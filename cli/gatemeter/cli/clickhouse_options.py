"""What the commands that speak to ClickHouse share: their options, the connection, and errors as one line."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Final, ParamSpec, TypeVar

import typer
from rich.console import Console

from gatemeter.sinks.clickhouse import ClickHouseSettings
from gatemeter.sinks.migrations import MigrationChanged
from gatemeter.sinks.port import SinkError

P = ParamSpec("P")
T = TypeVar("T")

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

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


class OptionError(Exception):
    """An option has a value that is not accepted; the text names it and what is."""


def one_line_errors(command: Callable[P, T]) -> Callable[P, T]:
    """What a user can mend becomes one line on stderr and exit code 2; anything else is a bug and keeps its trace."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except (OptionError, SinkError, MigrationChanged) as error:
            errors.print(f"error: {error}", markup=False)
            raise typer.Exit(2) from error

    return guarded


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
