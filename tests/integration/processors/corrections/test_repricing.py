"""Repricing uses the fold's own prices: the same card changes nothing, another one changes exactly what it prices."""

from __future__ import annotations

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections import truths
from gatemeter.processors.corrections.adjust import Manual, find_row, replacing_row
from gatemeter.processors.corrections.reprice import Repricing, Wanted
from gatemeter.processors.corrections.rows import CorrectionRow
from gatemeter.processors.corrections.staging import StagedRun, stage
from gatemeter.processors.corrections.truths import UsageHours
from gatemeter.processors.metadata.cards import RateCard, RateLine, make_card
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.corrections import commit_row
from support.folded import HOUR_US, FoldedLog
from support.logs import PRICES, START_US, build, response, standard_view

ALL = Wanted(UsageHours(START_US, START_US + 24 * HOUR_US))
DOUBLE = {name: 2 * pico for name, pico in PRICES.items()}


def card(prices: dict[str, int], model: str = "gpt", **dates: int) -> RateCard:
    return make_card("new", [RateLine("openai", model, prices, prices)], **dates)


@pytest.fixture
def folded(clickhouse_database: ClickHouseSettings) -> FoldedLog:
    made = FoldedLog(clickhouse_database, build(standard_view()))
    made.gateway.send(
        [
            response("cached", 0, gateway_cache="exact"),
            response("other", 0, model="unknown"),
            response("r1", 0),
            response("r2", 0, tenant_id="globex", identity_source="header_claim", tokens=(7, 3)),
            response("r3", 0, tenant_id="nobody"),
            response("r4", 0, tokens=None),
            response("r5", HOUR_US, started_us=HOUR_US),
        ],
        HOUR_US,
    )
    made.flush()
    return made


def rows_of(client: Client, folded: FoldedLog, cards: RateCard, wanted: Wanted = ALL) -> list[CorrectionRow]:
    return list(Repricing(client, folded.metadata, [cards], wanted).rows("run", "why"))


def committed(folded: FoldedLog, run_id: str, rows: list[CorrectionRow], offset: int) -> StagedRun:
    staged = stage(folded.sink, run_id, rows)
    folded.write("commits", commit_row(staged, offset))
    return staged


def test_the_card_that_priced_a_fact_changes_nothing(clickhouse_client: Client, folded: FoldedLog) -> None:
    repricing = Repricing(clickhouse_client, folded.metadata, [card(PRICES)], ALL)
    assert list(repricing.rows("run", "why")) == []
    assert (repricing.summary.examined, repricing.summary.staged) == (7, 0)
    assert repricing.summary.left == {"not in the card": 1}


def test_another_card_changes_what_it_prices_by_the_plan_that_applied(
    clickhouse_client: Client, folded: FoldedLog
) -> None:
    repricing = Repricing(clickhouse_client, folded.metadata, [card(DOUBLE)], ALL)
    rows = {row.request_id: row for row in repricing.rows("run", "why")}
    assert sorted(rows) == ["cached", "r1", "r2", "r3", "r5"]
    cost = 2 * (100 * PRICES["input_text_uncached"] + 20 * PRICES["output_text_visible"])
    first = rows["r1"]
    assert (first.token_cost, first.markup, first.charge) == (cost, cost * 15 // 100, cost * 115 // 100)
    assert (first.rate_card_id, first.plan_id, first.currency, first.cause) == ("new", "standard", "USD", "reprice")
    assert first.attribution == dict.fromkeys(first.attribution)
    hit = rows["cached"]
    assert (hit.price_status, hit.provider_cost, hit.charge) == ("free", 0, 0)
    assert (hit.avoided_provider_cost, hit.avoided_charge) == (cost, cost * 115 // 100), "what it saved is of the card"
    unknown = rows["r3"]
    assert (unknown.charge, unknown.absorbed, unknown.absorbed_to) == (0, cost, "unallocated")
    lines = {(line.tenant_id, line.model): line for line in repricing.summary.lines}
    acme = lines["acme", "gpt"]
    assert (acme.rows, acme.charge_before, acme.charge_after) == (3, cost * 115 // 100, 2 * cost * 115 // 100)
    assert acme.delta == acme.charge_before


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(ALL.hours, tenant="globex"), ["r2"]),
        (Wanted(ALL.hours, model="gpt", provider="openai", tenant="acme"), ["cached", "r1", "r5"]),
        (Wanted(ALL.hours, provider="anthropic"), []),
        (Wanted(UsageHours(START_US + HOUR_US, START_US + 2 * HOUR_US)), ["r5"]),
    ],
)
def test_only_what_was_asked_for_is_priced_again(
    clickhouse_client: Client, folded: FoldedLog, wanted: Wanted, expected: list[str]
) -> None:
    assert [row.request_id for row in rows_of(clickhouse_client, folded, card(DOUBLE), wanted)] == expected


def test_a_card_prices_what_had_no_price_and_a_lacking_bucket_takes_it_away(
    clickhouse_client: Client, folded: FoldedLog
) -> None:
    repricing = Repricing(clickhouse_client, folded.metadata, [card(PRICES, "unknown")], ALL)
    (row,) = repricing.rows("run", "why")
    assert (row.request_id, row.price_status) == ("other", "priced")
    (line,) = repricing.summary.lines
    assert (line.unpriced_before, line.unpriced_after, line.charge_before) == (1, 0, 0)
    (hit, lacking, *_) = rows_of(clickhouse_client, folded, card({"input_text_uncached": 1}))
    assert (hit.price_status, hit.charge, hit.avoided_charge) == ("free", 0, None)
    assert (lacking.price_status, lacking.charge, lacking.token_cost) == ("unpriced", None, None)


def test_outside_of_the_card_s_dates_nothing_changes(clickhouse_client: Client, folded: FoldedLog) -> None:
    from_then = card(DOUBLE, effective_from_us=START_US + HOUR_US)
    assert [row.request_id for row in rows_of(clickhouse_client, folded, from_then)] == ["r5"]


def test_a_second_repricing_starts_from_the_first(clickhouse_client: Client, folded: FoldedLog) -> None:
    double, thrice = card(DOUBLE), card({name: 3 * pico for name, pico in PRICES.items()})
    committed(folded, "one", list(Repricing(clickhouse_client, folded.metadata, [double], ALL).rows("one", "why")), 5)
    assert rows_of(clickhouse_client, folded, double) == []
    repricing = Repricing(clickhouse_client, folded.metadata, [thrice], ALL)
    assert len(list(repricing.rows("two", "why"))) == 5
    acme = next(line for line in repricing.summary.lines if line.tenant_id == "acme")
    assert 3 * acme.charge_before == 2 * acme.charge_after


def test_amounts_set_by_hand_stay(clickhouse_client: Client, folded: FoldedLog) -> None:
    truth = find_row(clickhouse_client, "usage", "r1", 1, "")
    by_hand = replacing_row("hand", truth, Manual("credit", {"token_cost": 1, "markup": 0}, {"cost_centre": "cc-9"}))
    committed(folded, "hand", [by_hand], 5)
    only = Wanted(ALL.hours, tenant="acme")
    repricing = Repricing(clickhouse_client, folded.metadata, [card(DOUBLE)], only)
    assert [row.request_id for row in repricing.rows("run", "why")] == ["cached", "r5"]
    assert repricing.summary.left == {"not in the card": 1, "set by hand": 1}
    over = Wanted(ALL.hours, tenant="acme", over_manual=True)
    rows = rows_of(clickhouse_client, folded, card(DOUBLE), over)
    assert [(row.request_id, row.cost_centre) for row in rows] == [("cached", None), ("r1", "cc-9"), ("r5", None)]


def test_slices_are_bounded_and_leave_nothing_out(
    clickhouse_client: Client, folded: FoldedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rows_of(clickhouse_client, folded, card(DOUBLE))
    assert len(truths.slices(clickhouse_client, "usage_facts", ALL.hours, 4)) == 3
    assert len(truths.slices(clickhouse_client, "usage_facts", ALL.hours, 10)) == 1
    monkeypatch.setattr(truths, "SLICE_ROWS", 2)
    cut = rows_of(clickhouse_client, folded, card(DOUBLE))
    assert sorted(row.request_id for row in cut) == sorted(row.request_id for row in whole)
    assert [row.entry for row in cut] == [0, 1, 2, 3, 4]


def test_a_higher_revision_is_the_truth_whatever_its_hour(clickhouse_client: Client, folded: FoldedLog) -> None:
    better = response("r1", 5 * HOUR_US, started_us=0, usage_revision=1, tokens=(200, 40))
    folded.gateway.send([better], 5 * HOUR_US)
    folded.flush()
    rows = rows_of(clickhouse_client, folded, card(DOUBLE), Wanted(ALL.hours, tenant="acme"))
    assert [row.request_id for row in rows] == ["cached", "r1", "r5"]
    assert rows[1].token_cost == 2 * (200 * PRICES["input_text_uncached"] + 40 * PRICES["output_text_visible"])
    truth = find_row(clickhouse_client, "usage", "r1", 1, "")
    assert rows[1].key == truth.key
