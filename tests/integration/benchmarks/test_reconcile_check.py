"""Every planted difference is found with its cause and amount and nothing else is; and the judge can say no."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.reconcile_check.bills import Bills, Place, Plant
from benchmarks.reconcile_check.run import check, judge
from benchmarks.reconcile_check.world import DAYS, read_card

from gatemeter.processors.reconciling.causes import CAUSES
from gatemeter.sinks.clickhouse import ClickHouseSettings


def test_what_is_planted_in_the_exports_of_five_providers_is_found(
    clickhouse_database: ClickHouseSettings, tmp_path: Path
) -> None:
    judged = check(clickhouse_database, tmp_path, 3, 8_000, lambda _: None)
    assert judged.as_json() == {"planted": 17, "found": 17, "wrong_class": 0, "false_reports": 0}
    assert [verdict.kind for verdict in judged.verdicts if not verdict.places] == []


PLACE = Place("openai", "unmetered", DAYS[0], "search", "gpt", "output_total")


@pytest.fixture
def bills() -> Bills:
    made = Bills(read_card(), [], 1)
    made.plants.append(Plant("stolen key", {PLACE: 5}))
    return made


@pytest.mark.parametrize(
    ("found", "figures"),
    [
        ({PLACE: 5}, (1, 0, 0)),
        ({}, (0, 0, 0)),
        ({PLACE: 4}, (0, 0, 0)),
        ({replace(PLACE, cause="late_usage"): 5}, (0, 1, 0)),
        ({PLACE: 5, replace(PLACE, day=DAYS[1]): 7}, (1, 0, 1)),
        ({PLACE: 5, replace(PLACE, cause="rounding"): 7}, (1, 0, 1)),
    ],
)
def test_the_judge_tells_what_was_missed_misnamed_or_made_up(
    bills: Bills, found: dict[Place, int], figures: tuple[int, int, int]
) -> None:
    said = judge(bills, found).as_json()
    assert (said["found"], said["wrong_class"], said["false_reports"]) == figures


def test_the_documented_table_has_every_cause() -> None:
    text = (Path(__file__).parents[3] / "docs" / "reconciliation.md").read_text("utf-8")
    assert [cause.name for cause in CAUSES if f"| `{cause.name}` |" not in text] == []
