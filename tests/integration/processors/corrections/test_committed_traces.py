"""Corrections from their staging to the ledger: through the log, the fold and a sealer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.adjust import Manual, find_row, free_entry, replacing_row
from gatemeter.processors.corrections.reprice import Repricing, Wanted
from gatemeter.processors.corrections.staging import StagedRun, stage
from gatemeter.processors.corrections.truths import UsageHours
from gatemeter.processors.metadata.cards import RateLine, make_card
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.facts import exact
from support.folded import HOUR_US, FoldedLog
from support.logs import PRICES, START_US, build, response, standard_view

DOUBLE = {name: 2 * pico for name, pico in PRICES.items()}
CHARGE = (100 * PRICES["input_text_uncached"] + 20 * PRICES["output_text_visible"]) * 115 // 100
MINUTE_US = 60_000_000


class Books(FoldedLog):
    """One answered attempt of tenant acme in the first hour, and its ledger."""

    def __init__(self, settings: ClickHouseSettings, client: Client) -> None:
        super().__init__(settings, build(standard_view()))
        self.client = client
        self.gateway.send([response("r1", 0)], 0)
        self.flush()

    def repriced(self, run: str) -> StagedRun:
        """Stages twice the price of everything."""
        card = make_card("double", [RateLine("openai", "gpt", DOUBLE, DOUBLE)])
        wanted = Wanted(UsageHours(START_US, START_US + 24 * HOUR_US))
        work = Repricing(self.client, self.metadata, [card], wanted)  # type: ignore[arg-type]
        return stage(self.sink, run, work.rows(run, "contract"))

    def sealed_through(self, hour: int) -> None:
        self.pass_time((hour + 1) * HOUR_US + 31 * MINUTE_US)
        self.flush()
        self.seal(self.client)

    def entries(self) -> list[tuple[Any, ...]]:
        columns = "cause, reverses != '', charge, reference, reason"
        query = f"SELECT {columns} FROM ledger_entries AS e ORDER BY e.posted_hour, entry"
        return [tuple(row) for row in self.client.query(query).result_rows]


@pytest.fixture
def books(clickhouse_database: ClickHouseSettings, clickhouse_client: Client) -> Books:
    return Books(clickhouse_database, clickhouse_client)


def test_trace_24_the_reply_to_a_commit_is_lost_and_it_is_appended_again(books: Books) -> None:
    credit = Manual("credit", {"markup": -7}, {"tenant_id": "acme"}, "USD")
    run = stage(books.sink, "run", [free_entry("run", START_US, credit)])
    first = books.commit(run, MINUTE_US, "manual")
    books.commit(run, HOUR_US, "manual")
    books.sealed_through(1)
    assert sorted(books.entries()) == [
        ("manual", False, exact(-7), "run", "credit"),
        ("usage", False, exact(CHARGE), "", ""),
    ]
    log = books.client.query("SELECT offset, act, subject, reason FROM operator_log FINAL WHERE act = 'commit'")
    assert [row[0] for row in log.result_rows] == [first.offset, first.offset + 1]
    assert {row[1:] for row in log.result_rows} == {("commit", "run", "because")}


def test_trace_25_a_repricing_of_revision_0_does_not_touch_revision_1(books: Books) -> None:
    run = books.repriced("run")
    assert run.entries == 1
    better = response("r1", MINUTE_US, started_us=0, usage_revision=1, tokens=(200, 40))
    books.gateway.send([better], MINUTE_US)
    books.commit(run, 2 * MINUTE_US)
    books.sealed_through(0)
    assert books.entries() == [("usage", False, exact(2 * CHARGE), "", "")]
    query = "SELECT kind, request_id, attempt, detail FROM exceptions FINAL WHERE kind = 'correction_superseded'"
    ((_, request, attempt, detail),) = books.client.query(query).result_rows
    assert (request, attempt, json.loads(detail)["run_id"]) == ("r1", 1, "run")
    again = books.repriced("again")
    books.commit(again, 2 * HOUR_US)
    books.sealed_through(2)
    assert books.entries()[1:] == [
        ("reprice", True, exact(-2 * CHARGE), "", "contract"),
        ("reprice", False, exact(4 * CHARGE), "again", "contract"),
    ]


def test_a_correction_of_a_sealed_row_takes_back_and_puts_instead(books: Books) -> None:
    books.sealed_through(0)
    books.commit(books.repriced("dear"), 2 * HOUR_US)
    books.sealed_through(2)
    truth = find_row(books.client, "usage", "r1", 1, "gw-a")
    by_hand = replacing_row("hand", truth, Manual("half", {"markup": 0}, {"cost_centre": "cc-9"}))
    books.commit(stage(books.sink, "hand", [by_hand]), 4 * HOUR_US, "manual")
    books.sealed_through(4)
    cost = 2 * CHARGE * 100 // 115
    assert books.entries() == [
        ("usage", False, exact(CHARGE), "", ""),
        ("reprice", True, exact(-CHARGE), "", "contract"),
        ("reprice", False, exact(2 * CHARGE), "dear", "contract"),
        ("manual", True, exact(-2 * CHARGE), "", "half"),
        ("manual", False, exact(cost), "hand", "half"),
    ]
    lines = books.client.query("SELECT cost_centre, charge, rate_card_id FROM charge_lines").result_rows
    assert lines == [("cc-9", exact(cost), "double")]
