"""Facts and imports in ClickHouse: what is compared, at which grain, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.pricing.ratesfile import build_card
from gatemeter.processors.reconciling import metered
from gatemeter.processors.reconciling.invoiced_rates import rates_file
from gatemeter.processors.reconciling.kept import changes, keep, kept_findings, kept_run, kept_runs
from gatemeter.processors.reconciling.running import Run, Wanted, reconcile
from gatemeter.processors.reconciling.settings import ReconcileError, Scope, Settings
from gatemeter.processors.reconciling.using import coverage, paths_of
from support.billed import PRICES, line, publish_card, used, write_facts, write_import

NOW = datetime(2026, 11, 3, 9, tzinfo=UTC)
DAYS = [date(2026, 10, day) for day in range(1, 32)]
WANTED = Wanted("openai", "2026-10")
INPUT, OUTPUT = 1_000 * PRICES["input_text_uncached"], 100 * PRICES["output_text_visible"]


@pytest.fixture
def card(clickhouse_client: Client, tmp_path: Path) -> str:
    return publish_card(clickhouse_client, tmp_path)


def noon(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 10, day, hour, 30, tzinfo=UTC)


def lines_of(day: int, calls: int = 1, **changes: Any) -> list[dict[str, Any]]:
    """What the provider bills for `calls` calls."""
    return [
        line(date(2026, 10, day), "input_text_uncached", 1_000 * calls, INPUT * calls, **changes),
        line(date(2026, 10, day), "output_text_visible", 100 * calls, OUTPUT * calls, **changes),
    ]


def run_of(client: Client, settings: Settings | None = None, wanted: Wanted = WANTED) -> Run:
    return reconcile(client, wanted, settings or Settings(), NOW)


def said(run: Run) -> list[tuple[str, int, str, int]]:
    """Cause, day, token type and amount."""
    return [(each.cause, each.day.day, each.key.token_type if each.key else "", each.amount) for each in run.findings]


def test_sides_that_agree(clickhouse_client: Client, card: str) -> None:
    write_facts(clickhouse_client, [used(f"r{day}", noon(day), card) for day in (1, 2, 31)])
    write_import(clickhouse_client, "i1", [each for day in (1, 2, 31) for each in lines_of(day)], DAYS)
    run = run_of(clickhouse_client)
    assert said(run) == []
    assert (run.provider_cost, run.invoiced, run.missing_days) == (3 * (INPUT + OUTPUT),) * 2 + ((),)


def test_a_fact_that_is_written_twice_or_revised_counts_once(clickhouse_client: Client, card: str) -> None:
    first = used("r1", noon(1), card, input_text_uncached=7, response_hash="old")
    better = used("r1", noon(1), card) | {"version": first["version"] + 1, "usage_revision": 1}
    write_facts(clickhouse_client, [first, better, better, used("r2", noon(1), card)])
    write_import(clickhouse_client, "i1", lines_of(1, calls=2))
    assert said(run_of(clickhouse_client)) == []


def test_slices_of_requests_make_no_difference(
    clickhouse_client: Client, card: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_facts(clickhouse_client, [used(f"r{number}", noon(1), card) for number in range(50)])
    write_import(clickhouse_client, "i1", lines_of(1, calls=50))
    monkeypatch.setattr(metered, "slices_of", lambda client: 7)
    run = run_of(clickhouse_client)
    assert (said(run), run.provider_cost) == ([], 50 * (INPUT + OUTPUT))


def test_hits_of_a_cache_denials_and_other_providers_are_no_use(clickhouse_client: Client, card: str) -> None:
    free = {"provider_cost": 0, "token_cost": 0, "charge": 0}
    write_facts(
        clickhouse_client,
        [
            used("r1", noon(1), card),
            used("hit", noon(1), card, gateway_cache="exact", **free),
            used("denied", noon(1), card, status="denied", **free),
            used("other", noon(1), card, provider="azure"),
        ],
    )
    write_import(clickhouse_client, "i1", lines_of(1))
    assert said(run_of(clickhouse_client)) == []


def test_buckets_that_the_provider_does_not_tell_apart_are_one(clickhouse_client: Client, card: str) -> None:
    tokens = {"output_text_visible": 60, "output_text_reasoning": 40}
    write_facts(clickhouse_client, [used("r1", noon(1), card, **tokens)])
    write_import(clickhouse_client, "i1", lines_of(1))
    assert said(run_of(clickhouse_client)) == []


def test_versions_of_a_model_are_what_the_export_tells(clickhouse_client: Client, card: str) -> None:
    write_facts(clickhouse_client, [used("r1", noon(1), card, served_model="gpt-4o-2024-08-06")])
    write_import(clickhouse_client, "i1", lines_of(1))
    assert said(run_of(clickhouse_client)) == []


def test_the_provider_s_calendar_decides_the_day(clickhouse_client: Client, card: str) -> None:
    # 2026-10-02 05:30 UTC is still the 1st in Los Angeles, and 2026-10-01 05:30 is September.
    write_facts(clickhouse_client, [used("r1", noon(2, hour=5), card), used("r0", noon(1, hour=5), card)])
    write_import(clickhouse_client, "i1", lines_of(1, calendar="America/Los_Angeles"), DAYS)
    pacific = Settings(calendar="US/Pacific")
    assert said(run_of(clickhouse_client, pacific)) == []


def test_a_bill_of_days_of_another_calendar_is_refused(clickhouse_client: Client, card: str) -> None:
    write_facts(clickhouse_client, [used("r1", noon(1), card)])
    write_import(clickhouse_client, "i1", lines_of(1, calendar="Europe/Berlin"))
    with pytest.raises(ReconcileError, match="calendar must be 'Europe/Berlin', whose days the imports of 'openai'"):
        run_of(clickhouse_client)


def test_a_later_import_of_a_day_replaces_the_earlier_one(clickhouse_client: Client, card: str) -> None:
    write_facts(clickhouse_client, [used("r1", noon(1), card), used("r2", noon(2), card)])
    write_import(clickhouse_client, "i1", [*lines_of(1, calls=5), *lines_of(2)])
    assert ("unmetered", 1, "input_text_uncached", 4 * INPUT) in said(run_of(clickhouse_client))
    write_import(clickhouse_client, "i2", lines_of(1), at=datetime(2026, 11, 2, tzinfo=UTC))
    assert said(run_of(clickhouse_client)) == []


def test_days_without_an_import_are_listed_and_not_compared(clickhouse_client: Client, card: str) -> None:
    write_facts(clickhouse_client, [used("r1", noon(1), card), used("r2", noon(2), card)])
    write_import(clickhouse_client, "i1", lines_of(1))
    run = run_of(clickhouse_client)
    assert (said(run), run.missing_days[0], len(run.missing_days)) == ([], date(2026, 10, 2), 30)


def test_a_period_without_any_import_is_refused(clickhouse_client: Client, card: str) -> None:
    with pytest.raises(ReconcileError, match="no billing import speaks of 'openai' in 2026-10"):
        run_of(clickhouse_client)


def test_scopes_tell_accounts_and_their_traffic_apart(clickhouse_client: Client, card: str) -> None:
    write_facts(
        clickhouse_client,
        [used("r1", noon(1), card, tenant_id="acme"), used("r2", noon(1), card, tenant_id="globex")],
    )
    write_import(
        clickhouse_client,
        "i1",
        [*lines_of(1), *lines_of(1, project="proj-2"), *lines_of(1, calls=3, project="stolen", key_id="key_x")],
    )
    scopes = (
        Scope("acme", project="proj-1", tenants=("acme",)),
        Scope("globex", project="proj-2", tenants=("globex",)),
    )
    run = run_of(clickhouse_client, Settings(scopes=scopes))
    assert {(each.cause, each.scope) for each in run.findings} == {("unmetered", "(no scope)")}
    assert run.findings[0].evidence["billed_to"] == ["org-1/stolen/key_x 3000"]


def test_amounts_of_one_report_and_tokens_of_another_are_one_line(clickhouse_client: Client, card: str) -> None:
    write_facts(clickhouse_client, [used("r1", noon(1), card)])
    cost = [each | {"content": "cost"} for each in lines_of(1)]
    usage = [each | {"amount": None, "content": "usage"} for each in lines_of(1)]
    write_import(clickhouse_client, "i1", cost)
    write_import(clickhouse_client, "i2", usage)
    run = run_of(clickhouse_client)
    assert said(run) == []
    payers = {key.token_type: run.sides.invoiced[key].payers for key in run.keys}
    assert payers == {
        "input_text_uncached": {"org-1/proj-1/key_1": 1_000},
        "output_text_visible": {"org-1/proj-1/key_1": 100},
    }


def test_batch_jobs_can_be_reconciled_alone(clickhouse_client: Client, card: str) -> None:
    batch = {"workload_class": "batch"}
    write_facts(clickhouse_client, [used("r1", noon(1), card), used("b1", noon(1), card, **batch)])
    halves = [each | {"amount": each["amount"] / 2} | batch for each in lines_of(1)]
    write_import(clickhouse_client, "i1", [*lines_of(1, calls=2), *halves])
    assert said(run_of(clickhouse_client, wanted=replace(WANTED, workload_class="batch"))) == []
    realtime = run_of(clickhouse_client, wanted=replace(WANTED, workload_class="realtime"))
    assert said(realtime) == [
        ("unmetered", 1, "input_text_uncached", INPUT),
        ("unmetered", 1, "output_text_visible", OUTPUT),
    ]


def test_lines_that_an_export_has_twice_are_duplicates(clickhouse_client: Client, card: str) -> None:
    write_facts(clickhouse_client, [used("r1", noon(1), card)])
    lines = [each | {"raw": "the same bytes " + each["token_type"]} for each in lines_of(1)]
    write_import(clickhouse_client, "i1", [*lines, *lines])
    assert {cause for cause, *_ in said(run_of(clickhouse_client))} == {"duplicate"}


def test_a_call_with_facts_of_two_gateways_is_a_duplicate_of_ours(clickhouse_client: Client, card: str) -> None:
    twice = [
        used("r1", noon(1), card, provider_request_id="chatcmpl-1"),
        used("e1", noon(1), card, provider_request_id="chatcmpl-1", gateway_id="envoy"),
    ]
    write_facts(clickhouse_client, twice)
    write_import(clickhouse_client, "i1", lines_of(1))
    assert said(run_of(clickhouse_client)) == [
        ("duplicate", 1, "input_text_uncached", -INPUT),
        ("duplicate", 1, "output_text_visible", -OUTPUT),
    ]


def test_streams_that_were_left_without_usage_explain_output(clickhouse_client: Client, card: str) -> None:
    unknown = dict.fromkeys(("input_text_uncached", "output_text_visible"))
    nothing = dict.fromkeys(("provider_cost", "token_cost", "charge", "list_cost"))
    left = used("r2", noon(1), card, status="cancelled", usage_source="missing", price_status="no_usage", **unknown)
    write_facts(clickhouse_client, [used("r1", noon(1), card), left | nothing])
    write_import(clickhouse_client, "i1", lines_of(1, calls=2))
    assert {cause for cause, *_ in said(run_of(clickhouse_client))} == {"cancelled_streams"}


def test_a_request_whose_answer_never_came_explains_what_was_billed_of_it(clickhouse_client: Client, card: str) -> None:
    unknown = dict.fromkeys(("input_text_uncached", "output_text_visible"))
    nothing = dict.fromkeys(("provider_cost", "token_cost", "charge", "list_cost"))
    orphan = used("r2", noon(1), card, status="orphan", usage_source="missing", has_response=False, **unknown) | nothing
    write_facts(clickhouse_client, [used("r1", noon(1), card), orphan])
    write_import(clickhouse_client, "i1", lines_of(1, calls=2))
    assert {cause for cause, *_ in said(run_of(clickhouse_client))} == {"retries_charged"}


def test_runs_are_kept_shown_compared_and_superseded(clickhouse_client: Client, card: str) -> None:
    write_facts(clickhouse_client, [used("r1", noon(1), card)])
    write_import(
        clickhouse_client, "i1", [*lines_of(1, calls=2), line(date(2026, 10, 1), "", None, 7, charge_category="tax")]
    )
    first = run_of(clickhouse_client)
    keep(clickhouse_client, first, "ada")
    kept = kept_run(clickhouse_client, first.run_id)
    assert (kept.state, kept.made_by, kept.invoiced) == ("open", "ada", 2 * (INPUT + OUTPUT) + 7)
    assert [(each.cause, each.action, each.amount) for each in kept_findings(clickhouse_client, first.run_id)] == [
        ("tax", "allocate", 7),
        ("unmetered", "unallocated", INPUT),
        ("unmetered", "unallocated", OUTPUT),
    ]
    write_facts(clickhouse_client, [used("r2", noon(1), card)])
    second = reconcile(clickhouse_client, WANTED, Settings(), NOW + timedelta(hours=1))
    keep(clickhouse_client, second, "ada")
    assert [run.state for run in kept_runs(clickhouse_client, "openai")] == ["open", "superseded"]
    found = [kept_findings(clickhouse_client, run.run_id) for run in (first, second)]
    assert [(each.cause, each.before, each.after) for each in changes(*found)] == [("unmetered", INPUT + OUTPUT, 0)]
    status = clickhouse_client.query(
        "SELECT provider_cost, invoiced, variance, explained, unexplained FROM reconciliation_status "
        "WHERE run_id = {r:String}",
        {"r": first.run_id},
    ).result_rows
    assert [int(value * 10**12) for value in status[0]] == [
        *(INPUT + OUTPUT, 2 * (INPUT + OUTPUT) + 7, INPUT + OUTPUT + 7, 7, INPUT + OUTPUT),
    ]


def test_the_rates_of_an_invoice_have_all_that_the_card_has_of_a_model(
    clickhouse_client: Client, card: str, tmp_path: Path
) -> None:
    write_facts(clickhouse_client, [used("r1", noon(1), card)])
    dearer = [
        line(date(2026, 10, 1), "input_text_uncached", 1_000, 1_000 * 3_000_000),
        line(date(2026, 10, 1), "output_total", 100, 100 * 12_000_000),
    ]
    write_import(clickhouse_client, "i1", dearer)
    run = run_of(clickhouse_client)
    assert {cause for cause, *_ in said(run)} == {"price_difference"}
    keep(clickhouse_client, run, "ada")
    file = tmp_path / "invoice.yaml"
    file.write_text(rates_file(clickhouse_client, kept_run(clickhouse_client, run.run_id), "invoice"))
    rates = {
        each["workload_class"]: {name: (pico, each["provider_pico"][name]) for name, pico in each["list_pico"].items()}
        for each in build_card(file).datum["rates"]
    }
    assert rates["any"] == {
        "input_text_uncached": (2_500_000, 3_000_000),
        "input_text_cache_read": (1_250_000, 1_250_000),
        "output_text_visible": (10_000_000, 12_000_000),
        "output_text_reasoning": (10_000_000, 12_000_000),
    }
    assert rates["batch"]["output_text_visible"] == (5_000_000, 5_000_000)


def test_a_run_that_is_unknown_is_an_error(clickhouse_client: Client) -> None:
    with pytest.raises(ReconcileError, match="there is no reconciliation run 'R0'"):
        kept_run(clickhouse_client, "R0")


def test_coverage_names_the_largest_gap_first_and_the_ways_of_what_is_metered(
    clickhouse_client: Client, card: str
) -> None:
    write_facts(clickhouse_client, [used("r1", noon(1), card, route="/v1"), used("r2", noon(1), card, gateway_id="eu")])
    o3 = [each | {"model": "o3"} for each in lines_of(1, calls=9)]
    write_import(clickhouse_client, "i1", [*lines_of(1, calls=3), *o3])
    run = run_of(clickhouse_client)
    found = coverage(run, paths_of(clickhouse_client, run.span, run.settings, run.grain, "USD"))
    assert [(each.model, each.gap, each.covered) for each in found] == [
        ("o3", 9 * (INPUT + OUTPUT), 0),
        ("gpt-4o", INPUT + OUTPUT, 2 * (INPUT + OUTPUT)),
    ]
    assert {(path.gateway_id, path.route, path.attempts) for path in found[1].paths} == {
        ("gw", "/v1", 1),
        ("eu", "", 1),
    }
