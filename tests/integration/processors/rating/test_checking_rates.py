"""Usage without a rate is found in the facts, with the reason, by place; and what ends soon."""

from __future__ import annotations

from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.reprice import Repricing, Wanted
from gatemeter.processors.corrections.staging import stage
from gatemeter.processors.corrections.truths import UsageHours
from gatemeter.processors.metadata.cards import RateLine, make_card
from gatemeter.processors.metadata.entries import DAY_US
from gatemeter.processors.metadata.views import View, build_view
from gatemeter.processors.pricing.unpriced import Lack
from gatemeter.processors.rating.check import RateCheck
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.corrections import commit_row
from support.folded import HOUR_US, FoldedLog
from support.logs import PRICES, START_US, build, response, standard_view

NOW_US = START_US + HOUR_US
NONE = build_view([])
VIEW = build(
    standard_view()
    .rate("openai", "new", PRICES, from_us=NOW_US)
    .rate("openai", "gpt", PRICES, service_tier="flex", workload_class="batch", to_us=NOW_US + 3 * DAY_US)
)


@pytest.fixture
def folded(clickhouse_database: ClickHouseSettings) -> FoldedLog:
    made = FoldedLog(clickhouse_database, VIEW)
    made.gateway.send(
        [
            response("r0", 0),
            response("r1", 0, model="unknown", tokens=(5, 1)),
            response("r2", 1, model="unknown", tokens=(6, 2), tenant_id="globex"),
            response("r3", 2, model="asked", served_model="unknown"),
            response("r4", 3, service_tier="flexx", region="eu"),
            response("r5", 4, service_tier="flex"),
            response("r6", 5, model="new"),
            response("r7", 6, searches=2),
            response("r8", 7, model="unknown", tokens=None),
            response("r9", 8, model="unknown", gateway_cache="exact"),
        ],
        HOUR_US,
    )
    made.flush()
    return made


def check(client: Client, folded: FoldedLog, now: View = VIEW, days: int = 1, at_us: int = NOW_US) -> RateCheck:
    return RateCheck(client, folded.metadata, now, at_us, days, priced_at_us=at_us)  # type: ignore[arg-type]


def found(checked: RateCheck) -> dict[tuple[str, ...], tuple[Any, ...]]:
    return {
        (group.place.model, group.place.service_tier, group.place.reason): (
            group.attempts,
            (group.input_tokens, group.output_tokens),
            (group.first_us - START_US, group.last_us - START_US),
            group.tenants,
            group.lack_now,
        )
        for group in checked.unpriced()
    }


def test_usage_without_a_rate_is_counted_by_place_and_reason(clickhouse_client: Client, folded: FoldedLog) -> None:
    unknown, acme = Lack("unknown_model"), {"acme"}
    assert found(check(clickhouse_client, folded)) == {
        ("unknown", "", "unknown_model"): (2, (11, 3), (0, 1), {"acme", "globex"}, unknown),
        ("asked", "", "unknown_model"): (1, (100, 20), (2, 2), acme, unknown),
        ("gpt", "flexx", "unknown_tier"): (1, (100, 20), (3, 3), acme, Lack("unknown_tier")),
        ("gpt", "flex", "unknown_class"): (1, (100, 20), (4, 4), acme, Lack("unknown_class")),
        ("new", "", "no_price_then"): (1, (100, 20), (5, 5), acme, None),
        ("gpt", "", "bucket_without_price"): (
            1,
            (100, 20),
            (6, 6),
            acme,
            Lack("bucket_without_price", ("searches",), 0),
        ),
    }


def test_another_card_is_asked_what_it_would_price(clickhouse_client: Client, folded: FoldedLog) -> None:
    card = make_card("mine", [RateLine("openai", name, PRICES, PRICES) for name in ("unknown", "gpt")])
    groups = found(check(clickhouse_client, folded, build_view([card])))
    assert {key: group[-1] for key, group in groups.items() if group[-1] is None} == {
        ("unknown", "", "unknown_model"): None,
        ("asked", "", "unknown_model"): None,
    }
    assert groups["new", "", "no_price_then"][-1] == Lack("unknown_model")


def test_usage_before_the_days_is_not_looked_at(clickhouse_client: Client, folded: FoldedLog) -> None:
    assert found(check(clickhouse_client, folded, at_us=NOW_US + 2 * DAY_US)) == {}
    assert len(found(check(clickhouse_client, folded, at_us=NOW_US + 2 * DAY_US, days=3))) == 6


def test_what_a_correction_priced_since_is_priced(clickhouse_client: Client, folded: FoldedLog) -> None:
    card = make_card("mine", [RateLine("openai", "unknown", PRICES, PRICES)])
    wanted = Wanted(UsageHours(START_US, START_US + DAY_US), model="unknown")
    rows = list(Repricing(clickhouse_client, folded.metadata, [card], wanted).rows("run", "why"))  # type: ignore[arg-type]
    folded.write("commits", commit_row(stage(folded.sink, "run", rows), 9))
    left = found(check(clickhouse_client, folded))
    assert {key[2] for key in left} == {"unknown_tier", "unknown_class", "no_price_then", "bucket_without_price"}


def test_rates_that_end_without_a_successor_are_named_used_models_first(
    clickhouse_client: Client, folded: FoldedLog
) -> None:
    ends = NOW_US + 2 * DAY_US
    lines = [
        RateLine("openai", "idle", PRICES, PRICES, effective_to_us=ends),
        RateLine("openai", "gpt", PRICES, PRICES, effective_to_us=ends),
        RateLine("openai", "goes_on", PRICES, PRICES, effective_to_us=ends),
        RateLine("openai", "goes_on", PRICES, PRICES, effective_from_us=ends),
        RateLine("openai", "later", PRICES, PRICES, effective_to_us=NOW_US + 9 * DAY_US),
        RateLine("openai", "over", PRICES, PRICES, effective_to_us=NOW_US),
    ]
    now = build_view([make_card("mine", lines)])
    endings = check(clickhouse_client, folded, now, days=7).endings()
    assert [(ending.key[1], ending.ends_us, ending.attempts) for ending in endings] == [
        ("gpt", ends, 4),
        ("idle", ends, 0),
    ]
    whole = build_view([make_card("mine", lines[-2:], effective_to_us=NOW_US + DAY_US)])
    assert [each.key[1] for each in check(clickhouse_client, folded, whole, days=7).endings()] == ["later"]
    assert check(clickhouse_client, folded, NONE).endings() == []
