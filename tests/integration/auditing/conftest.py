"""One system a session whose traffic is sunk; each test gets a copy of its database to tamper with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.audited import Audited, copy_of, sunk
from support.clickhouse import ClickHouse
from support.kafka import KafkaBroker
from support.processes import Processes
from support.spine import Spine

REQUESTS = 120


@dataclass
class Original:
    """What the copies are made of."""

    spine: Spine
    database: ClickHouseSettings


@pytest.fixture(scope="session")
def original(
    kafka: KafkaBroker, clickhouse: ClickHouse, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Original]:
    folder = tmp_path_factory.mktemp("audited")
    with Processes(folder) as processes:
        spine = Spine(kafka, folder, processes, partitions=3)
        database = sunk(spine, clickhouse, REQUESTS)
        yield Original(spine, database)
        clickhouse.drop(database)


@pytest.fixture
def audited(original: Original, clickhouse: ClickHouse) -> Iterator[Audited]:
    with copy_of(original.spine, clickhouse, original.database) as copy:
        yield copy
