"""A reorganisation moves what was used to whom the new file names, and changes no amount."""

from __future__ import annotations

from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.pricing import Pricer
from gatemeter.processors.corrections.reorganise import Reorganisation
from gatemeter.processors.corrections.rows import AMOUNTS, AVOIDED, CorrectionError
from gatemeter.processors.corrections.staging import stage
from gatemeter.processors.corrections.truths import UsageHours, truths
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.views import RateLine, View, make_card
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.corrections import commit_row
from support.folded import HOUR_US, FoldedLog
from support.logs import START_US, build, policy, response, standard_view

ALL = UsageHours(START_US, START_US + 24 * HOUR_US)


def tenant(tenant_id: str, *apps: str, centre: str = "cc-1", **changes: Any) -> Draft:
    datum = {
        "tenant_id": tenant_id,
        "effective_from": 0,
        "effective_to": None,
        "name": tenant_id,
        "cost_centre": centre,
        "business_unit": "retail",
        "organisation": None,
        "plan_id": "standard",
        "apps": list(apps),
    }
    return Draft("Tenant", datum | changes)


@pytest.fixture
def folded(clickhouse_database: ClickHouseSettings) -> FoldedLog:
    made = FoldedLog(clickhouse_database, build(standard_view()))
    events = [
        response("r1", 0),
        response("r2", 0, app_id="search"),
        policy("r2", 0, "d2", app_id="search"),
        response("r3", 0, tenant_id="globex", identity_source="mtls"),
        response("r4", 0, tenant_id="nobody"),
    ]
    made.gateway.send(events, 0)
    made.flush()
    return made


def test_moved_apps_and_changed_cost_centres_keep_their_amounts(clickhouse_client: Client, folded: FoldedLog) -> None:
    file = [tenant("acme", "chat", centre="cc-7"), tenant("finder", "search", centre="cc-8")]
    work = Reorganisation(clickhouse_client, file, ALL)
    rows = list(work.rows("run", "moved"))
    moved = [(row.target, row.request_id, row.tenant_id, row.cost_centre, row.business_unit) for row in rows]
    assert moved == [
        ("usage", "r1", "acme", "cc-7", "retail"),
        ("usage", "r2", "finder", "cc-8", "retail"),
        ("decision", "d2", "finder", "cc-8", "retail"),
    ]
    assert work.summary.left == {"not in the file": 1, "unattributed: unknown tenant": 1}
    assert {row.cause for row in rows} == {"reorganisation"}
    assert sum(line.delta for line in work.summary.lines) == 0
    for target in ("usage", "decision"):
        before = {truth.key: truth.amounts for truth in truths(clickhouse_client, target, ALL)}
        assert all(before[row.key] == row.amounts for row in rows if row.target == target)
    decision = rows[2]
    assert decision.policy_cost and decision.provider_cost == decision.token_cost == 0
    assert decision.rate_card_id == "policies"
    assert {name for name in AMOUNTS if getattr(decision, name) is None} == set(AVOIDED)


def test_a_second_time_changes_nothing(clickhouse_client: Client, folded: FoldedLog) -> None:
    file = [tenant("acme", "chat"), tenant("finder", "search", centre="cc-8")]
    staged = stage(folded.sink, "run", Reorganisation(clickhouse_client, file, ALL).rows("run", "moved"))
    assert staged.entries == 3
    folded.write("commits", commit_row(staged))
    assert list(Reorganisation(clickhouse_client, file, ALL).rows("again", "moved")) == []
    back = [tenant("acme", "chat", "search"), tenant("finder", "none")]
    assert [row.tenant_id for row in Reorganisation(clickhouse_client, back, ALL).rows("back", "undo")] == ["acme"] * 2


def test_the_file_s_dates_count_at_the_start_of_a_request(clickhouse_client: Client, folded: FoldedLog) -> None:
    later = [tenant("acme", centre="cc-7", effective_from=START_US + 1)]
    assert list(Reorganisation(clickhouse_client, later, ALL).rows("run", "moved")) == []
    now = [*later, tenant("acme", centre="cc-6", effective_from=START_US)]
    rows = Reorganisation(clickhouse_client, now, ALL).rows("run", "moved")
    assert {row.cost_centre for row in rows} == {"cc-6"}


def test_an_app_of_two_tenants_is_refused(clickhouse_client: Client, folded: FoldedLog) -> None:
    file = [tenant("acme", "chat"), tenant("finder", "search"), tenant("seeker", "search")]
    with pytest.raises(
        CorrectionError, match="'search' must have one tenant at a time, the file lists it under finder, s"
    ):
        list(Reorganisation(clickhouse_client, file, ALL).rows("run", "moved"))
    with pytest.raises(CorrectionError, match="--tenants must be a file with at least one tenant"):
        Reorganisation(clickhouse_client, [], ALL)


PLAN = Draft(
    "ChargePlan",
    {
        "plan_id": "later",
        "effective_from": 0,
        "effective_to": None,
        "markup_ppm": 100_000,
        "retry_rule": "final_only",
        "retry_cost_centre": "retries",
        "cache_rule": "free",
        "cache_price_ppm": 0,
        "accept_claimed_identity": False,
    },
)


def test_what_was_registered_later_is_charged_under_its_plan(clickhouse_client: Client, folded: FoldedLog) -> None:
    file = [tenant("nobody", plan_id="later", centre="cc-9"), PLAN]
    work = Reorganisation(clickhouse_client, file, ALL, build(standard_view()))
    (row,) = work.rows("run", "registered")
    cost = 100 * 2_500_000 + 20 * 10_000_000
    assert (row.request_id, row.tenant_id, row.cost_centre, row.plan_id) == ("r4", "nobody", "cc-9", "later")
    assert (row.provider_cost, row.markup, row.absorbed, row.absorbed_to) == (cost, cost // 10, 0, "")
    assert (row.charge, row.retry_rule) == (cost + cost // 10, "final_only")
    assert sum(line.delta for line in work.summary.lines) == row.charge


def test_a_credential_that_was_registered_later_says_who_pays(
    clickhouse_client: Client, clickhouse_database: ClickHouseSettings
) -> None:
    made = FoldedLog(clickhouse_database, build(standard_view()))
    nobody = {"tenant_id": None, "app_id": None, "credential_fingerprint": "key"}
    made.gateway.send([response("r1", 0, **nobody), policy("r1", 0, "d1", **nobody)], 0)
    made.flush()
    published = build(standard_view().identity("credential", "key", app_id="chat"))
    rows = list(Reorganisation(clickhouse_client, None, ALL, published).rows("run", "registered"))
    assert [(row.target, row.tenant_id, row.app_id, row.plan_id) for row in rows] == [
        ("usage", "acme", "chat", "standard"),
        ("decision", "acme", "chat", "standard"),
    ]
    usage, decision = rows
    assert usage.charge == 450_000_000 * 115 // 100
    assert (decision.policy_cost, decision.charge) == (3_000_021, 3_000_021 + 450_003)


def test_a_repricing_of_what_was_attributed_later_keeps_it_so(clickhouse_client: Client, folded: FoldedLog) -> None:
    file = [tenant("nobody", plan_id="standard", centre="cc-9")]
    published = build(standard_view())
    staged = stage(folded.sink, "run", Reorganisation(clickhouse_client, file, ALL, published).rows("run", "late"))
    folded.write("commits", commit_row(staged))
    truth = next(truth for truth in truths(clickhouse_client, "usage", ALL) if truth.key.request_id == "r4")
    assert truth.is_attributed
    assert list(Reorganisation(clickhouse_client, file, ALL, published).rows("again", "late")) == []

    class Log:
        loaded_to = 1

        def view(self, offset: int) -> View:
            return published

    cheap = make_card(
        "cheap",
        [
            RateLine(
                "openai",
                "gpt",
                {"input_text_uncached": 10, "output_text_visible": 20},
                {"input_text_uncached": 10, "output_text_visible": 20},
            )
        ],
        content_hash="h",
    )
    priced = Pricer(Log(), [cheap]).usage(truth)  # type: ignore[arg-type]
    assert priced is not None
    assert (priced.amounts["charge"], priced.terms["plan_id"], priced.terms["absorbed_to"]) == (1_610, "standard", "")
