"""ClickHouse has no room on its disk: workers wait, and when there is room again nothing is missing or twice."""

from __future__ import annotations

from pathlib import Path

from gatemeter.sinks.clickhouse import connect
from support.clickhouse import ClickHouse
from support.processes import eventually
from support.spine import Spine
from support.tiny_disk import tiny_disk
from support.undisturbed import Talking, assert_as_undisturbed, facts


def test_a_full_disk_is_waited_for(spine: Spine, clickhouse: ClickHouse, tmp_path: Path) -> None:
    with tiny_disk(clickhouse, tmp_path) as disk:
        client = connect(disk.settings)
        worker = spine.worker(disk.settings)
        with Talking(spine) as gateway:
            eventually(lambda: facts(client), "the first rows")
            disk.fill()
            eventually(lambda: "ClickHouse is not available" in worker.log, "a write finds no room")
            calls = gateway.calls
            eventually(lambda: gateway.calls > calls + 300, "events come in meanwhile")
            assert worker.running
            disk.free()
            eventually(lambda: "ClickHouse is available again" in worker.log, "there is room again")
        client.close()
        assert_as_undisturbed(spine, clickhouse, disk.settings, gateway.calls, worker)
