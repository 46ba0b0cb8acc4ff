"""Facts go to ClickHouse: synchronous Arrow inserts, and the newest checkpoint back."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from gatemeter.schemas.tables import TABLES, column_names
from gatemeter.sinks.checkpoints import checkpoint_row
from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.port import SinkRefused

_SELECT_CHECKPOINT: Final = (
    f"SELECT {', '.join(f'`{name}`' for name in column_names('ingest_batches'))} FROM ingest_batches "
    "WHERE topic = {topic:String} AND partition = {partition:Int64} ORDER BY next_offset DESC, replay_from DESC LIMIT 1"
)


def _check_range(name: str, value: timedelta, low: timedelta, high: timedelta) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}: must be {low} to {high}, got {value}")


@dataclass(frozen=True, slots=True)
class ClickHouseSettings:
    """Where ClickHouse is and how long to wait for it. Checks itself: `ValueError` names field and range."""

    url: str  # http://host:port or https://host:port
    user: str
    password: str
    database: str = "gatemeter"
    connect_timeout: timedelta = timedelta(seconds=5)
    request_timeout: timedelta = timedelta(seconds=60)  # of one insert or query; below Kafka's rebalance timeout
    insert_quorum: int | None = None  # replicas that must hold a row before an insert returns; None: not replicated

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url: must be http://host:port or https://host:port, got {self.url!r}")
        if not self.database.replace("_", "").isalnum():
            raise ValueError(f"database: must be letters, digits and '_', got {self.database!r}")
        if not self.password:
            raise ValueError("password: must not be empty")
        _check_range("connect_timeout", self.connect_timeout, timedelta(seconds=1), timedelta(minutes=5))
        _check_range("request_timeout", self.request_timeout, timedelta(seconds=1), timedelta(hours=1))
        if self.insert_quorum is not None and not 1 <= self.insert_quorum <= 100:
            raise ValueError(f"insert_quorum: must be 1 to 100 or unset, got {self.insert_quorum}")

    def __repr__(self) -> str:  # the password stays out of logs
        return f"ClickHouseSettings(url={self.url!r}, user={self.user!r}, database={self.database!r})"


def connect(settings: ClickHouseSettings, *, database: str | None = None) -> Client:
    """A clickhouse-connect client without a session, so that threads may share it. `database`: another than set.

    Raises `SinkUnavailable` or `SinkRefused`.
    """
    try:
        return clickhouse_connect.get_client(
            dsn=settings.url,
            username=settings.user,
            password=settings.password,
            database=settings.database if database is None else database,
            connect_timeout=int(settings.connect_timeout.total_seconds()),
            send_receive_timeout=int(settings.request_timeout.total_seconds()),
            autogenerate_session_id=False,
            compress="lz4",
            client_name="gatemeter",
        )
    except FAILURES as error:
        raise sink_error(f"connect to {settings.url}", error) from error


class ClickHouseSink:
    """Implements `FactSink`. Connects at first use, so a sink can be made while ClickHouse is away. Thread-safe."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._lock = threading.Lock()
        # The server's default has been asynchronous inserts since 26: rows must be durable when the call returns.
        # Rows of one insert are not compared: readers collapse what is repeated, and it halves the cost.
        self._insert_settings: dict[str, Any] = {"async_insert": 0, "optimize_on_insert": 0}
        if settings.insert_quorum is not None:
            # Parallel quorum: workers do not wait for each other. A stale read of the checkpoint is safe.
            self._insert_settings["insert_quorum"] = settings.insert_quorum

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = connect(self._settings)
            return self._client

    def write(self, table: str, rows: pa.Table) -> None:
        """Insert rows; they are in ClickHouse on return. Writing them again changes nothing: they are keyed."""
        if table not in TABLES:
            raise SinkRefused(f"unknown table {table!r}: must be one of {', '.join(TABLES)}")
        if rows.num_rows == 0:
            return
        client = self._connected()
        try:
            client.insert_arrow(table, rows, settings=self._insert_settings)
        except FAILURES as error:
            raise sink_error(f"insert {rows.num_rows} rows into {table}", error) from error

    def latest_checkpoint(self, topic: str, partition: int) -> dict[str, Any] | None:
        """The row of `ingest_batches` with the greatest `next_offset`; None only if the query found none."""
        client = self._connected()
        asked = {"topic": topic, "partition": partition}
        try:
            rows = client.query_arrow(_SELECT_CHECKPOINT, asked, use_strings=False)
        except FAILURES as error:
            raise sink_error(f"read the checkpoint of {topic}[{partition}]", error) from error
        except (pa.ArrowException, ValueError) as error:  # an answer that broke off is no answer
            raise sink_error(f"read the checkpoint of {topic}[{partition}]", error) from error
        return checkpoint_row(rows)

    def close(self) -> None:
        """Give up the connection; the next call makes a new one."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None
