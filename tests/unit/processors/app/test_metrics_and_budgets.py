"""The page of metrics, and the timer that looks at budgets: only where partition 0 is owned, by the log's clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from gatemeter.processors import budget_timer
from gatemeter.processors.budget_timer import BudgetTimer
from gatemeter.processors.flush import Flusher
from gatemeter.processors.metrics import WorkerCollector
from gatemeter.sinks.memory import MemorySink
from gatemeter.sinks.port import SinkUnavailable
from gatemeter.sinks.reports.budgets import BudgetStatus
from gatemeter.sinks.terms.budgets import budget_of
from gatemeter.sinks.terms.months import DAY_US
from support.terms import OCTOBER, budget_datum

UNIT = 10**12
STATUS = BudgetStatus(budget_of(budget_datum()), OCTOBER, 810 * UNIT, 1_500 * UNIT, (), 0, ())


def ownership(log_time_us: int = OCTOBER.start_us + 9 * DAY_US, *, partition: int = 0, waiting_for: str = "") -> Any:
    owned = SimpleNamespace(name="t[0]", next_offset=7, waiting_for=waiting_for, log_time_us=log_time_us)
    return SimpleNamespace(partitions={TP("t", partition): owned}, failure=None)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(period, now) of each look; every look finds one budget."""
    seen: list[tuple[str, int]] = []

    def look(client: Any, sink: Any, period: str, now_us: int) -> list[BudgetStatus]:
        seen.append((period, now_us))
        return [STATUS]

    monkeypatch.setattr(budget_timer, "look_at_budgets", look)
    return seen


def timer(owner: Any) -> BudgetTimer:
    settings: Any = SimpleNamespace(topic="t")
    return BudgetTimer(settings, owner, lambda: (None, MemorySink()))  # type: ignore[arg-type, return-value]


async def test_the_owner_of_partition_0_looks_at_the_month_of_the_logs_clock(looks: list[tuple[str, int]]) -> None:
    owner = ownership()
    watch = timer(owner)
    await watch.tick()
    assert looks == [("2026-10", OCTOBER.start_us + 9 * DAY_US)]
    assert watch.latest == (STATUS,)
    owner.partitions.clear()
    await watch.tick()
    assert (watch.latest, len(looks)) == ((), 1)


async def test_a_young_month_leaves_time_for_the_one_before(looks: list[tuple[str, int]]) -> None:
    await timer(ownership(OCTOBER.start_us + DAY_US)).tick()
    assert [period for period, _ in looks] == ["2026-09", "2026-10"]


@pytest.mark.parametrize("owner", [ownership(partition=1), ownership(waiting_for="a secret"), ownership(0)])
async def test_others_do_not_look(looks: list[tuple[str, int]], owner: Any) -> None:
    await timer(owner).tick()
    assert looks == []


async def test_clickhouse_away_is_one_line_and_the_next_tick_looks_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = [SinkUnavailable("away"), SinkUnavailable("away"), [STATUS]]

    def look(*asked: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(budget_timer, "look_at_budgets", look)
    watch = timer(ownership())
    await watch.tick()
    await watch.tick()
    assert [record.getMessage() for record in caplog.records] == ["budgets: away"]
    await watch.tick()
    assert watch.latest == (STATUS,)
    assert "budget b: 80 % of 2026-10 is crossed" in caplog.text


def page(owner: Any, *statuses: BudgetStatus) -> str:
    flusher = Flusher(MemorySink(), rows=10, interval_seconds=1.0, max_unflushed_rows=10)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(WorkerCollector(owner, flusher, lambda: statuses))
    return generate_latest(registry).decode()


def test_the_page_shows_health_and_budgets() -> None:
    text = page(ownership(), STATUS)
    for line in (
        "gatemeter_ok 1.0",
        "gatemeter_unflushed_rows 0.0",
        "gatemeter_rows_total 0.0",
        'gatemeter_next_offset{partition="t[0]"} 7.0',
        'gatemeter_waiting{partition="t[0]"} 0.0',
    ):
        assert f"{line}\n" in text
    of = '{budget="b",currency="USD",period="2026-10",scope="tenant",subject="acme"}'
    for name, value in (("spend", "810.0"), ("limit", "1000.0"), ("forecast", "1500.0"), ("crossed_percent", "80.0")):
        assert f"gatemeter_budget_{name}{of} {value}\n" in text


def test_what_is_not_known_has_no_sample() -> None:
    unknown = BudgetStatus(STATUS.budget, OCTOBER, 0, None, (), 0, ())
    assert "gatemeter_budget_forecast{" not in page(ownership(), unknown)
    assert "gatemeter_budget_spend{" not in page(ownership())
    assert "gatemeter_ok 0.0\n" in page(ownership(waiting_for="a secret"))
