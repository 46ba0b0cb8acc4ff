"""What fault tests share: a system with tenants in force, and a proxy before ClickHouse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.kafka import KafkaBroker
from support.processes import Processes
from support.proxy import HttpProxy
from support.spine import Spine

TENANTS = Path(__file__).parents[2] / "examples" / "tenants.yaml"


@pytest.fixture
def spine(kafka: KafkaBroker, tmp_path: Path) -> Iterator[Spine]:
    """One system with tenants in force; its processes are killed at the end of the test."""
    with Processes(tmp_path) as processes:
        made = Spine(kafka, tmp_path, processes)
        made.apply(*read_tenants_file(TENANTS))
        yield made


@pytest.fixture
def proxy(clickhouse_database: ClickHouseSettings) -> Iterator[HttpProxy]:
    """Before the test's ClickHouse."""
    with HttpProxy(clickhouse_database.url) as made:
        yield made


@pytest.fixture
def proxied(proxy: HttpProxy, clickhouse_database: ClickHouseSettings) -> ClickHouseSettings:
    """The test's database as workers reach it through the proxy."""
    return replace(clickhouse_database, url=proxy.url)
