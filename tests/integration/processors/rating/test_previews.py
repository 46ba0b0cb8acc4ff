"""A preview prices as the fold does, after the retry rule, changes nothing, and agrees with what a repricing posts."""

from __future__ import annotations

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections import truths
from gatemeter.processors.corrections.adjust import Manual, find_row, replacing_row
from gatemeter.processors.corrections.pricing import Plans, Pricer
from gatemeter.processors.corrections.reprice import Repricing, Wanted
from gatemeter.processors.corrections.staging import stage
from gatemeter.processors.corrections.truths import UsageHours
from gatemeter.processors.metadata.cards import RateCard, RateLine, make_card
from gatemeter.processors.metadata.views import DatedPlan, Plan, Tenant
from gatemeter.processors.rating.preview import Preview, PreviewLine
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.corrections import commit_row
from support.folded import HOUR_US, FoldedLog
from support.logs import PRICES, START_US, build, policy, request, response, standard_view

HOURS = UsageHours(START_US, START_US + 24 * HOUR_US)
DOUBLE = {name: 2 * pico for name, pico in PRICES.items()}
COST = 100 * 2_500_000 + 20 * 10_000_000
"""Of one answered attempt: 100 tokens in, 20 out."""
HALF = COST * 3_333_300 // 100_000_000
"""Mark-up of the plan `claims`, 3.3333 %."""


def card(prices: dict[str, int], *models: str, currency: str = "USD") -> RateCard:
    lines = [RateLine("openai", model, prices, prices) for model in models]
    return make_card("new", lines, currency=currency)


@pytest.fixture
def folded(clickhouse_database: ClickHouseSettings) -> FoldedLog:
    made = FoldedLog(clickhouse_database, build(standard_view()))
    claims = {"tenant_id": "globex", "identity_source": "header_claim"}
    made.gateway.send(
        [
            response("a1", 0),
            response("a2", 0, gateway_cache="exact"),
            response("a3", 0, model="unknown"),
            response("a4", HOUR_US, started_us=HOUR_US),
            policy("a1", 0, "d1"),
            # two attempts that did not answer before the one that did
            response("g1", 0, status="error", delivered=False, **claims),
            response("g1", 0, attempt=2, status="ok", delivered=False, **claims),
            response("g1", 0, attempt=3, **claims),
            request("g1", 0, attempt=4, **claims),
            response("n1", 0, tenant_id="nobody"),
        ],
        HOUR_US,
    )
    made.flush()
    return made


def preview(
    client: Client, folded: FoldedLog, cards: list[RateCard] | None = None, plans: Plans | None = None
) -> tuple[dict[tuple[str, str], PreviewLine], Preview]:
    made = Preview(client, Pricer(folded.metadata, cards, plans), HOURS)  # type: ignore[arg-type]
    made.run()
    return {(line.tenant_id, line.currency): line for line in made.lines}, made


def charges(lines: dict[tuple[str, str], PreviewLine]) -> dict[str, tuple[int, int]]:
    return {tenant: (line.now.amounts["charge"], line.then.amounts["charge"]) for (tenant, _), line in lines.items()}


def test_the_card_that_priced_the_month_changes_nothing(clickhouse_client: Client, folded: FoldedLog) -> None:
    lines, made = preview(clickhouse_client, folded, [card(PRICES, "gpt")])
    for line in lines.values():
        assert line.now == line.then
        assert (line.newly_priced, line.newly_unpriced) == (0, 0)
    assert made.left == {"not in the card": 1}
    marked = COST + COST * 15 // 100
    decision = 3_000_000 + 3 * 7
    assert lines["acme", "USD"].now.amounts == {
        "charge": 2 * marked + decision + (decision * 15 + 50) // 100,
        "provider_cost": 2 * COST,
        "list_cost": 2 * COST,
        "absorbed": 0,
    }
    assert (lines["acme", "USD"].attempts, lines["acme", "USD"].decisions) == (4, 1)
    assert lines["acme", "USD"].now.unpriced == 1
    # final_only: the answering attempt alone is charged, what the others cost is absorbed
    assert lines["globex", "USD"].now.amounts["charge"] == COST + HALF
    assert lines["globex", "USD"].now.amounts["absorbed"] == 2 * (COST + HALF)
    assert lines["nobody", "USD"].now.amounts["absorbed"] == COST


def test_another_card_prices_what_it_has_and_leaves_the_rest(clickhouse_client: Client, folded: FoldedLog) -> None:
    lines, made = preview(clickhouse_client, folded, [card(DOUBLE, "gpt", "unknown")])
    acme = lines["acme", "USD"]
    assert (acme.now.unpriced, acme.then.unpriced, acme.newly_priced) == (1, 0, 1)
    assert acme.difference("provider_cost") == 2 * COST + 2 * COST
    assert lines["globex", "USD"].then.amounts["charge"] == 2 * COST + (2 * COST * 33_333 + 500_000) // 1_000_000
    assert made.left == {}
    (total,) = made.totals
    assert total.difference("charge") == sum(line.difference("charge") for line in lines.values())
    assert (total.attempts, total.decisions) == (8, 1)


def test_a_card_that_lacks_a_bucket_leaves_usage_unpriced(clickhouse_client: Client, folded: FoldedLog) -> None:
    lines, _ = preview(clickhouse_client, folded, [card({"input_text_uncached": 1}, "gpt")])
    acme = lines["acme", "USD"]
    assert (acme.now.unpriced, acme.then.unpriced, acme.newly_unpriced) == (1, 3, 2)
    assert acme.then.amounts["provider_cost"] == 0, "the decision is the platform's own"


def test_a_price_for_a_region_counts_in_that_region_alone(clickhouse_client: Client, folded: FoldedLog) -> None:
    who = {"tenant_id": "regional", "provider": "openai", "model": "gpt"}
    folded.gateway.send(
        [response("e1", HOUR_US, region="eu", **who), response("e2", HOUR_US, region="us", **who)], HOUR_US
    )
    folded.flush()
    lines = [RateLine("openai", "gpt", PRICES, PRICES), RateLine("openai", "gpt", DOUBLE, DOUBLE, region="eu")]
    found, _ = preview(clickhouse_client, folded, [make_card("new", lines)])
    assert found["regional", "USD"].difference("provider_cost") == COST
    assert found["acme", "USD"].difference("provider_cost") == 0


def test_another_currency_is_a_line_of_its_own(clickhouse_client: Client, folded: FoldedLog) -> None:
    lines, made = preview(clickhouse_client, folded, [card(PRICES, "gpt", currency="EUR")])
    assert lines["nobody", "USD"].then.amounts["provider_cost"] == 0
    assert lines["nobody", "EUR"].now.amounts["provider_cost"] == 0
    assert lines["nobody", "EUR"].then.amounts["provider_cost"] == COST
    assert [total.currency for total in made.totals] == ["EUR", "USD"]


def test_another_plan_marks_up_the_prices_that_applied(clickhouse_client: Client, folded: FoldedLog) -> None:
    plans = Plans([DatedPlan(Plan("standard", markup_ppm=500_000))])
    lines, made = preview(clickhouse_client, folded, plans=plans)
    decision = 3_000_000 + 3 * 7
    assert lines["acme", "USD"].then.amounts["charge"] == 2 * (COST + COST // 2) + decision + (decision + 1) // 2 - 1
    assert lines["acme", "USD"].difference("provider_cost") == 0
    assert (lines["acme", "USD"].now.unpriced, lines["acme", "USD"].then.unpriced) == (1, 1)
    assert lines["globex", "USD"].now == lines["globex", "USD"].then, "its plan is another"
    assert lines["nobody", "USD"].now == lines["nobody", "USD"].then, "who is not known pays nothing"
    assert made.left == {}


def test_the_retry_rule_and_accepted_evidence_of_a_plan_count(clickhouse_client: Client, folded: FoldedLog) -> None:
    everything = Plans([DatedPlan(Plan("claims", markup_ppm=33_333, accept_claimed_identity=True))])
    lines, _ = preview(clickhouse_client, folded, plans=everything)
    assert charges(lines)["globex"] == (COST + HALF, 3 * (COST + HALF))
    assert lines["globex", "USD"].difference("absorbed") == -2 * (COST + HALF)
    lines, _ = preview(clickhouse_client, folded, plans=Plans([DatedPlan(Plan("claims", retry_rule="final_only"))]))
    assert charges(lines)["globex"] == (COST + HALF, 0)
    assert lines["globex", "USD"].then.amounts["absorbed"] == 3 * COST


def test_a_tenant_of_the_file_has_its_plan_there_or_a_published_one(
    clickhouse_client: Client, folded: FoldedLog
) -> None:
    own = Plans([Tenant("acme", "own"), DatedPlan(Plan("own", markup_ppm=0))])
    moved = Plans([Tenant("acme", "claims")])
    first, _ = preview(clickhouse_client, folded, plans=own)
    second, _ = preview(clickhouse_client, folded, plans=moved)
    decision = 3_000_000 + 3 * 7
    assert charges(first)["acme"][1] == 2 * COST + decision
    assert charges(second)["acme"][1] == 2 * (COST + HALF) + decision + (decision * 33_333 + 500_000) // 1_000_000
    assert first["globex", "USD"].now == first["globex", "USD"].then


def test_a_card_and_a_plan_together(clickhouse_client: Client, folded: FoldedLog) -> None:
    plans = Plans([DatedPlan(Plan("standard", markup_ppm=0))])
    lines, _ = preview(clickhouse_client, folded, [card(DOUBLE, "gpt")], plans)
    assert charges(lines)["acme"][1] == 4 * COST + 3_000_000 + 3 * 7


def test_what_was_set_by_hand_stays(clickhouse_client: Client, folded: FoldedLog) -> None:
    target = find_row(clickhouse_client, "usage", "a1", 1, "")
    row = replacing_row("run", target, Manual("by hand", {"token_cost": 7}, {}))
    folded.write("commits", commit_row(stage(folded.sink, "run", [row]), 9))
    lines, made = preview(clickhouse_client, folded, [card(DOUBLE, "gpt")])
    assert made.left == {"not in the card": 1, "set by hand": 1}
    assert lines["acme", "USD"].difference("provider_cost") == COST


def test_a_preview_is_what_a_repricing_then_posts(
    clickhouse_client: Client, folded: FoldedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(truths, "SLICE_ROWS", 2)
    cards = [card(DOUBLE, "gpt", "unknown")]
    before, _ = preview(clickhouse_client, folded, cards)
    rows = list(Repricing(clickhouse_client, folded.metadata, cards, Wanted(HOURS)).rows("run", "why"))  # type: ignore[arg-type]
    folded.write("commits", commit_row(stage(folded.sink, "run", rows), 9))
    after, _ = preview(clickhouse_client, folded, plans=Plans([DatedPlan(Plan("none"))]))
    assert {key: line.then for key, line in before.items()} == {key: line.now for key, line in after.items()}
    assert all(line.now == line.then for line in after.values())
    again, _ = preview(clickhouse_client, folded, cards)
    assert all(line.now == line.then for line in again.values())
