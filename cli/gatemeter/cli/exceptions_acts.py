"""`gatemeter exceptions acknowledge|resolve|reopen|assign`: what became of an exception, by whom and why."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli.clickhouse_options import console, reading
from gatemeter.cli.exceptions_options import one_line_errors
from gatemeter.sinks.exceptions.acts import act_on

Id = Annotated[str, typer.Argument(help="Its id, as exceptions list shows it.")]
Why = Annotated[str, typer.Option("--reason", help="Why; it stands beside the state.")]
By = Annotated[str, typer.Option("--by", help="Who says so; the user of this machine if not given.")]

Where = tuple[str, str, str, Path | None, str]


@one_line_errors
def exceptions_acknowledge(
    exception_id: Id,
    reason: Why,
    by: By = "",
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Say that somebody looks into an exception.

    Example: gatemeter exceptions acknowledge 5f0c6f0b8f0d3d1f5d1ccd3a5b3b8b11 --reason "asked the team"
    """
    _say((url, user, password, password_file, database), exception_id, "acknowledge", by, reason=reason)


@one_line_errors
def exceptions_resolve(
    exception_id: Id,
    reason: Why,
    by: By = "",
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Say that an exception is settled. If it happens again on a later day, that is another one.

    Example: gatemeter exceptions resolve 5f0c6f0b8f0d3d1f5d1ccd3a5b3b8b11 --reason "load test of the team"
    """
    _say((url, user, password, password_file, database), exception_id, "resolve", by, reason=reason)


@one_line_errors
def exceptions_reopen(
    exception_id: Id,
    reason: Why,
    by: By = "",
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Open an exception again.

    Example: gatemeter exceptions reopen 5f0c6f0b8f0d3d1f5d1ccd3a5b3b8b11 --reason "it was not the load test"
    """
    _say((url, user, password, password_file, database), exception_id, "reopen", by, reason=reason)


@one_line_errors
def exceptions_assign(
    exception_id: Id,
    owner: Annotated[str, typer.Option("--owner", help="Who has to settle it.")],
    by: By = "",
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Give an exception to another owner than the registered one.

    Example: gatemeter exceptions assign 5f0c6f0b8f0d3d1f5d1ccd3a5b3b8b11 --owner ann@example.com
    """
    _say((url, user, password, password_file, database), exception_id, "assign", by, owner=owner)


def _say(where: Where, exception_id: str, act: str, by: str, *, reason: str = "", owner: str = "") -> None:
    with reading(*where) as client:
        at = datetime.now(UTC)
        act_on(client, exception_id, act, who=by or getpass.getuser(), at=at, reason=reason, owner=owner)
    past = {"acknowledge": "acknowledged", "resolve": "resolved", "reopen": "open again", "assign": f"of {owner}"}
    console.print(f"{exception_id} is {past[act]}", markup=False, soft_wrap=True)
