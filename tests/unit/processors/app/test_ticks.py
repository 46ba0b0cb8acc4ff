"""TICKs have a key and an epoch that are valid by the log's time, whatever this worker's own clock says."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from gatemeter.processors.metadata.entries import GatewayKey
from gatemeter.processors.ticks import Ticker
from gatemeter.schemas import codec, signing
from support.logs import SECRET, START_US, FakeMetadata

DAY_US = 86_400_000_000


def view_of_rotation() -> Any:
    """One key until START, another from START on."""
    until = GatewayKey("_tick", "policy_point", valid_to_us=START_US)
    after = GatewayKey("_tick", "policy_point", valid_from_us=START_US)
    return SimpleNamespace(keys={"tick-1": until, "tick-2": after})


@pytest.mark.parametrize("wrong_by_us", [-90 * DAY_US, 0, 90 * DAY_US], ids=["behind", "right", "ahead"])
@pytest.mark.parametrize(("log_time_us", "expected"), [(START_US - DAY_US, "tick-1"), (START_US + DAY_US, "tick-2")])
async def test_the_key_is_chosen_by_log_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wrong_by_us: int, log_time_us: int, expected: str
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: (START_US + wrong_by_us) * 1000)
    owned = SimpleNamespace(
        tp=TP("t", 0),
        name="t[0]",
        idle=True,
        heard_at=time.monotonic() - 60,
        metadata_offset=1,
        log_time_us=log_time_us,
    )
    sent: list[tuple[str, int]] = []

    async def append(topic: str, partition: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        epoch = codec.decode(value).datum["epoch"]
        sent.append((dict(headers)[signing.KID_HEADER].decode(), int(epoch.split("-")[0])))

    ownership: Any = SimpleNamespace(partitions={owned.tp: owned})
    metadata: Any = FakeMetadata({1: view_of_rotation()})
    ticker = Ticker(ownership, metadata, dict.fromkeys(("tick-1", "tick-2"), SECRET), append, after_seconds=0.05)
    task = asyncio.create_task(ticker.run())
    while not sent and not task.done() and not caplog.messages:
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert caplog.messages == []
    assert sent[0][0] == expected
    assert sent[0][1] <= log_time_us + 3_600_000_000, "an epoch that starts more than an hour ahead is refused"
