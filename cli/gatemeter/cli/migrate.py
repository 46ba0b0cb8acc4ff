"""`gatemeter migrate`: create or update the tables and views of ClickHouse."""

from __future__ import annotations

from typing import Annotated

import typer

from gatemeter.cli.clickhouse_options import (
    DEFAULT_DATABASE,
    DEFAULT_URL,
    DEFAULT_USER,
    Database,
    Password,
    PasswordFile,
    Url,
    User,
    console,
    one_line_errors,
    settings,
)
from gatemeter.sinks.migrations import MigrationSettings
from gatemeter.sinks.migrations import migrate as run_migrations

Roles = Annotated[
    bool,
    typer.Option(
        "--roles/--no-roles",
        envvar="GATEMETER_CLICKHOUSE_ROLES",
        help="Also make the roles gatemeter_writer and gatemeter_analyst (a server; the embedded engine has none).",
    ),
]
Fsync = Annotated[
    bool,
    typer.Option(
        "--fsync/--no-fsync",
        envvar="GATEMETER_CLICKHOUSE_FSYNC",
        help="Inserts return when the disk has them (for a server without replicas).",
    ),
]


@one_line_errors
def migrate(
    url: Url = DEFAULT_URL,
    user: User = DEFAULT_USER,
    password: Password = "",
    password_file: PasswordFile = None,
    database: Database = DEFAULT_DATABASE,
    roles: Roles = False,
    fsync: Fsync = False,
) -> None:
    """Bring ClickHouse's tables and views up to date; running it again changes nothing.

    Example: gatemeter migrate --clickhouse-url http://127.0.0.1:8123 --clickhouse-user admin --roles
    """
    given = settings(url, user, password, password_file, database)
    done = run_migrations(given, MigrationSettings(server=roles, fsync=fsync))
    console.print(f"database {database}: {', '.join(done)} applied" if done else f"database {database}: up to date")
