"""The timer that looks for exceptions: where partition 0 is owned, by the log's clock, and it outlives failures."""

from __future__ import annotations

from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from gatemeter.processors import exception_timer
from gatemeter.processors.exception_timer import ExceptionTimer
from gatemeter.processors.settings import ExceptionSettings
from gatemeter.sinks.exceptions.endpoint import Webhook
from gatemeter.sinks.exceptions.finding import Found
from gatemeter.sinks.exceptions.webhook import Told
from gatemeter.sinks.port import SinkUnavailable

NOON = datetime(2026, 3, 16, 12, tzinfo=UTC)
NOTHING = Found((), (), ())


def ownership(at: datetime = NOON, *, partition: int = 0, waiting_for: str = "") -> Any:
    owned = SimpleNamespace(waiting_for=waiting_for, log_time_us=int(at.timestamp()) * 1_000_000)
    return SimpleNamespace(partitions={TP("t", partition): owned}, failure=None)


def timer(owner: Any, exceptions: ExceptionSettings | None = None) -> ExceptionTimer:
    settings: Any = SimpleNamespace(topic="t", exceptions=exceptions or ExceptionSettings())
    return ExceptionTimer(settings, owner, lambda: object())  # type: ignore[arg-type, return-value]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[list[date]]:
    seen: list[list[date]] = []

    def look(client: Any, days: list[date], thresholds: Any, now: datetime) -> Found:
        seen.append(days)
        return NOTHING

    monkeypatch.setattr(exception_timer, "find_exceptions", look)
    return seen


async def test_the_owner_of_partition_0_looks_at_the_day_of_the_logs_clock(looks: list[list[date]]) -> None:
    await timer(ownership()).tick()
    await timer(ownership(NOON.replace(hour=3))).tick()
    assert looks == [[date(2026, 3, 16)], [date(2026, 3, 15), date(2026, 3, 16)]]


@pytest.mark.parametrize(
    "owner",
    [ownership(partition=1), ownership(waiting_for="a secret"), ownership(datetime(1970, 1, 1, tzinfo=UTC))],
)
async def test_others_do_not_look(looks: list[list[date]], owner: Any) -> None:
    await timer(owner).tick()
    assert looks == []


async def test_clickhouse_away_is_one_line_and_the_next_tick_looks_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = [SinkUnavailable("away"), SinkUnavailable("away"), NOTHING, RuntimeError("odd"), NOTHING]

    def look(*asked: Any) -> Found:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return NOTHING

    monkeypatch.setattr(exception_timer, "find_exceptions", look)
    watch = timer(ownership())
    for _ in range(5):
        await watch.tick()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["exceptions: away", "looking for exceptions failed; the next tick tries again"]
    assert answers == []


async def test_a_webhook_that_fails_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, looks: list[list[date]]
) -> None:
    monkeypatch.setattr(exception_timer, "tell", lambda *asked: Told(0, "the webhook at h answered 503"))
    watch = timer(ownership(), ExceptionSettings(webhook=Webhook("https://h/planted-secret")))
    await watch.tick()
    await watch.tick()
    assert [record.getMessage() for record in caplog.records] == ["exceptions: the webhook at h answered 503"]
    assert len(looks) == 2
