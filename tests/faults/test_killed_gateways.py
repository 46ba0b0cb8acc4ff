"""Gateways that are killed while they publish: a spool loses nothing; what memory loses is listed, and its end too."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.schemas.partitions import partition_of
from gatemeter.schemas.signing import load_secrets
from gatemeter.sinks.clickhouse import ClickHouseSettings
from gatemeter.sinks.reports.attestations import attestations
from support.depth import depth
from support.kafka import KafkaBroker, die_with_parent
from support.processes import Processes, eventually
from support.spine import Spine

SCRIPT = Path(__file__).parents[1] / "support" / "gateway_process.py"
KILLS = depth(4, 10)
RATE = 400.0
LIFE_SECONDS = 1.6
"""After its first event: two heartbeats of a second. Each next gateway lives `LONGER_SECONDS` longer."""
LONGER_SECONDS = 0.2
BATCH_EVENTS = 350
"""A partition gets as many in 2.6 s: so most deaths come between a heartbeat and the batch that it announced."""


@pytest.fixture
def spine(kafka: KafkaBroker, tmp_path: Path) -> Iterator[Spine]:
    with Processes(tmp_path) as processes:
        yield Spine(kafka, tmp_path, processes, partitions=3)


class Gateway:
    """One run of a gateway process; `ids` are those that its emitter has accepted, in order."""

    def __init__(self, spine: Spine, **settings: Any) -> None:
        values = {
            "bootstrap": spine.kafka.bootstrap,
            "gateway_id": "litellm",
            "gateway_kind": "inference_proxy",
            "kid": spine.kid,
            "secret": load_secrets(spine.folder / "secrets.json")[spine.kid].hex(),
            "topic": spine.topic,
            "heartbeat_seconds": 1,
            **settings,
        }
        self._child = subprocess.Popen(
            [sys.executable, str(SCRIPT), json.dumps(values), str(RATE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        self.epoch = ""
        self.ids: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        self.epoch = self._child.stdout.readline().split()[1]
        for line in self._child.stdout:
            if line.endswith("\n"):
                self.ids.append(line.strip())

    @property
    def is_emitting(self) -> bool:
        return bool(self.ids)

    def kill(self) -> None:
        self._child.kill()
        self._gone()

    def end(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        self._gone()
        assert self._child.returncode == 0

    def _gone(self) -> None:
        self._child.wait(60)
        self._reader.join()
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            pipe.close()

    def sequences(self, partitions: int) -> dict[int, list[str]]:
        """By partition the ids in order of their sequences."""
        found: dict[int, list[str]] = defaultdict(list)
        for request_id in self.ids:
            found[partition_of(request_id, partitions)].append(request_id)
        return found


def completeness(client: Client) -> dict[tuple[str, int], dict[str, Any]]:
    rows = client.query("SELECT * FROM completeness").named_results()
    return {(row["epoch"], row["partition"]): row for row in rows}


def test_killed_gateways_lose_nothing_with_a_spool_and_what_memory_loses_is_listed(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client, tmp_path: Path
) -> None:
    worker = spine.worker(clickhouse_database)
    key = str(spine.attestation_file)
    spooled: list[Gateway] = []
    in_memory: list[Gateway] = []
    for number in range(KILLS):
        spool = {"spool_folder": str(tmp_path / "spool"), "attestation_key_file": key, "linger_ms": 100}
        spooled.append(Gateway(spine, **spool))
        in_memory.append(Gateway(spine, spool_mode="memory", linger_ms=20_000, batch_events=BATCH_EVENTS))
        eventually(lambda: spooled[-1].is_emitting and in_memory[-1].is_emitting, "both emit", 30)
        time.sleep(LIFE_SECONDS + number * LONGER_SECONDS)
        spooled[-1].kill()
        in_memory[-1].kill()
    heir = Gateway(spine, **spool)
    heir.end()
    spine.wait_until_sunk(clickhouse_client, worker)

    facts = {row[0] for row in clickhouse_client.query("SELECT request_id FROM usage_facts FINAL").result_rows}
    accepted = {request_id for gateway in (*spooled, heir) for request_id in gateway.ids}
    assert len(accepted) > KILLS * RATE * LIFE_SECONDS / 4
    assert accepted <= facts, "an event that the spool had accepted was lost"
    listed = completeness(clickhouse_client)
    for gateway in spooled:
        for partition in range(spine.partitions):
            row = listed[gateway.epoch, partition]
            assert (row["missing"], row["closed"]) == ([], False)
    assert all(listed[heir.epoch, partition]["closed"] for partition in range(spine.partitions))

    lost = missing = 0
    for gateway in in_memory:
        for partition, ids in gateway.sequences(spine.partitions).items():
            row = listed[gateway.epoch, partition]
            gone = [sequence for sequence, request_id in enumerate(ids) if request_id not in facts]
            said = [sequence for first, after in row["missing"] for sequence in range(first, after)]
            assert said == [sequence for sequence in gone if sequence < row["announced_sequence"]]
            assert not row["closed"]
            lost, missing = lost + len(gone), missing + len(said)
    assert lost > missing > 0, "the kills hit nothing"
    check = clickhouse_client.query("SELECT partition, problem FROM conservation WHERE NOT ok").result_rows
    assert check == []
    attested = attestations(clickhouse_client, spine.attestation_keys)
    assert attested.first_problem == ""
    by_epoch = {(entry.place.epoch, entry.place.partition): entry for entry in attested.epochs}
    for gateway in spooled:
        assert any(by_epoch[gateway.epoch, partition].attested for partition in range(spine.partitions))
        for partition in range(spine.partitions):
            entry = by_epoch[gateway.epoch, partition]
            assert entry.unattested == (((entry.attested, entry.received),) if entry.received > entry.attested else ())
    assert all(by_epoch[heir.epoch, partition].unattested == () for partition in range(spine.partitions))
