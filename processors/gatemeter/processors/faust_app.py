"""The app for the `faust` command, set by the environment: `faust -A gatemeter.processors.faust_app COMMAND`."""

from __future__ import annotations

from gatemeter.processors.app import build_app
from gatemeter.processors.settings import load_settings
from gatemeter.processors.worker import clickhouse_sink

_settings = load_settings()
app = build_app(_settings, clickhouse_sink(_settings))
