"""ClickHouse: the port and its adapters, migrations, the embedded server, reports."""

from __future__ import annotations

from gatemeter.schemas.extras import need

need("gatemeter.sinks", "sinks", "clickhouse_connect", "lz4", "polars", "pyarrow")
