"""Numbered SQL files become tables, views and roles, each once; a table of the database records file and digest.

Files are `NNNN_name.sql` of `gatemeter.schemas`' `clickhouse` folder; those of `clickhouse/server` (roles) run only
where `MigrationSettings.server` is set: the embedded engine has no roles. A file that was applied and has changed
since is an error: add a new file instead. Every statement may run twice, so a migration that died is run again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.schemas.tables import TABLES
from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from gatemeter.sinks.failures import FAILURES, sink_error

_RECORDS: Final = """
CREATE TABLE IF NOT EXISTS migrations (name String, digest String, applied_at DateTime64(6, 'UTC'))
ENGINE = MergeTree ORDER BY name
"""


class MigrationChanged(Exception):
    """A file that is already applied has another content now. `name`: the file."""

    def __init__(self, name: str) -> None:
        super().__init__(f"migration {name} was applied with other content: undo the change and add a new file")
        self.name = name


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its path below `clickhouse/`, its text, and the BLAKE2b-128 of it."""

    name: str
    text: str

    @property
    def digest(self) -> str:
        return hashlib.blake2b(self.text.encode(), digest_size=16).hexdigest()

    def statements(self) -> list[str]:
        """The statements of the file; each ends with `;` at the end of a line."""
        return [part.strip() for part in self.text.split(";\n") if part.strip()]


@dataclass(frozen=True, slots=True)
class MigrationSettings:
    """`server`: a real server, with roles. `fsync`: inserts return when the disk has them (a server without quorum)."""

    server: bool = False
    fsync: bool = False


def migrations(*, server: bool = False) -> list[Migration]:
    """The files in the order in which they are applied; those for servers only come last."""
    root = resources.files("gatemeter.schemas") / "clickhouse"
    found = [Migration(file.name, file.read_text("utf-8")) for file in _sql_files(root)]
    if server:
        found += [Migration(f"server/{file.name}", file.read_text("utf-8")) for file in _sql_files(root / "server")]
    return found


def _sql_files(folder: Traversable) -> list[Traversable]:
    return sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)


def migrate(settings: ClickHouseSettings, options: MigrationSettings | None = None) -> list[str]:
    """Bring the database up to date and return the names of the files applied now; none on a second run.

    Raises `MigrationChanged`, `SinkUnavailable` or `SinkRefused`.
    """
    options = options or MigrationSettings()
    admin = connect(settings, database="default")
    try:
        _run(admin, f"CREATE DATABASE IF NOT EXISTS {settings.database}", "create the database")
    finally:
        admin.close()
    client = connect(settings)
    try:
        return apply(client, migrations(server=options.server), options)
    finally:
        client.close()


def apply(client: Client, files: list[Migration], options: MigrationSettings) -> list[str]:
    """Apply `files` to the client's database, in order; see `migrate`."""
    _run(client, _RECORDS, "create the table of migrations")
    applied = _applied(client)
    changed = [file.name for file in files if applied.get(file.name, file.digest) != file.digest]
    if changed:
        raise MigrationChanged(changed[0])
    done = []
    for file in files:
        if file.name in applied:
            continue
        for statement in file.statements():
            _run(client, statement, f"migration {file.name}")
        _run(client, _record(file), f"record migration {file.name}")
        done.append(file.name)
    if options.fsync:
        for table in TABLES:
            _run(client, f"ALTER TABLE {table} MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1", table)
    return done


def _record(file: Migration) -> str:
    return f"INSERT INTO migrations SELECT '{file.name}', '{file.digest}', now64(6, 'UTC')"


def _applied(client: Client) -> dict[str, str]:
    try:
        rows = client.query("SELECT name, min(digest) FROM migrations GROUP BY name").result_rows
    except FAILURES as error:
        raise sink_error("read the table of migrations", error) from error
    return {str(name): str(digest) for name, digest in rows}


def _run(client: Client, statement: str, doing: str) -> None:
    try:
        client.command(statement)
    except FAILURES as error:
        raise sink_error(doing, error) from error
