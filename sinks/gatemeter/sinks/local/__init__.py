"""The embedded ClickHouse: the chDB engine in a process of its own, behind ClickHouse's HTTP interface.

For trying and for tests: its data lives in a temporary folder and is deleted when the process ends.
"""

from __future__ import annotations

from gatemeter.schemas.extras import need

need("gatemeter.sinks.local", "local", "aiohttp", "chdb")
