"""What an accepted gap says is settled, read from the tables, is what the fold had settled when it stood there."""

from __future__ import annotations

import random

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.fold import checkpoint as checkpoints
from gatemeter.processors.gaps import Gap, settled_at
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from support.generated_logs import MINUTE, SECOND
from support.logs import TOPIC, Gateway, Log, build, new_fold, response, standard_view

VIEW = build(standard_view())


def a_log(seed: int) -> Log:
    """Three runs of gateways: batches, holes, lost records, re-sends cut otherwise, replays and discards."""
    rng = random.Random(seed)
    log = Log()
    log.control(VIEW)
    gateways = [Gateway(log), Gateway(log, run=2), Gateway(log, "gw-b", "b-1", run=3)]
    at_us = SECOND
    for number in range(60):
        at_us += rng.choice((SECOND, 20 * SECOND, 2 * MINUTE))
        gateway = rng.choice(gateways)
        roll = rng.random()
        if roll < 0.6:
            ahead = rng.choice((0, 0, 0, 7 * MINUTE))  # refused until log time has come near it
            events = [response(f"r{number}-{i}", at_us + (ahead if i == 1 else 0)) for i in range(rng.randint(0, 4))]
            gateway.send(events, at_us)
        elif roll < 0.75:
            log.again(rng.choice(log.records[1:] or log.records), at_us)
        elif roll < 0.85:
            gateway.sequence += rng.randint(0, 2)
        elif len(log.records) > 1:
            first = rng.randint(0, gateway.sequence + 2)
            log.discard(rng.choice(log.records), 0, gateway, (first, first + rng.randint(0, 3)), at_us)
    return log


@pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
def test_what_the_tables_say_is_settled_is_what_the_fold_had_settled(
    columnar: bool, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    sink = ClickHouseSink(clickhouse_database)
    for seed in range(5):
        for table in ("gateway_epochs", "quarantine", "quarantine_discards"):
            clickhouse_client.command(f"TRUNCATE TABLE {table}")
        log = a_log(seed)
        fold = new_fold({1: VIEW}, columnar=columnar)
        outputs = [fold.fold(log.records[first : first + 5]) for first in range(0, len(log.records), 5)]
        for output in outputs:
            for table, rows in output.tables.items():
                sink.write(table, rows)
        row = outputs[-1].checkpoint
        assert row is not None
        resume = checkpoints.read(row)
        assert 0 < resume.at.offset < resume.next_offset, "there is something between"
        gap = Gap(TOPIC, 0, 1, resume.at.offset, resume.next_offset, resume.next_offset, resume.next_offset)
        found = settled_at(clickhouse_client, gap, resume, row["log_time"])
        expected = fold._state.epochs.snapshot(fold.log_time_us)
        assert {key: state.settled for key, state in found.items()} == {
            key: state.settled for key, state in expected.items()
        }
    sink.close()
