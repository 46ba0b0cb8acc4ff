"""ClickHouse as a worker's settings name it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from gatemeter.processors.settings import Settings
from gatemeter.sinks.clickhouse import ClickHouseSettings

PATIENCE: Final = timedelta(minutes=15)
"""How long what reads days and months beside the fold waits for one answer."""


def clickhouse_of(settings: Settings, request_timeout: timedelta) -> ClickHouseSettings:
    """Where it is and who asks; `request_timeout` of one insert or query."""
    return ClickHouseSettings(
        url=settings.clickhouse_url,
        user=settings.clickhouse_user,
        password=settings.clickhouse_password,
        database=settings.clickhouse_database,
        request_timeout=request_timeout,
    )
