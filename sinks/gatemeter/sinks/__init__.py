"""What holds the facts: the port that the processors write to, ClickHouse behind it, and the readers of what it holds.

Import the module that you need: `port`, `arrow`, `clickhouse`, `memory`, `migrations`, `reports.…`, `local.…`.
"""

from __future__ import annotations

from gatemeter.schemas.extras import need

need("gatemeter.sinks", "sinks", "clickhouse_connect", "lz4", "polars", "pyarrow")
