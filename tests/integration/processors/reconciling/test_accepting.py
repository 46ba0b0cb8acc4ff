"""What an accepted run posts: who bears which part, what is taken back, and that all of it adds up."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.rows import CorrectionRow
from gatemeter.processors.corrections.staging import stage
from gatemeter.processors.reconciling.accepting import Entries, entries_of, keep_posting
from gatemeter.processors.reconciling.kept import KeptRun, keep, kept_run
from gatemeter.processors.reconciling.running import Wanted, reconcile
from gatemeter.processors.reconciling.settings import ReconcileError, Settings
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from support.billed import PRICES, line, publish_card, used, write_facts, write_import
from support.corrections import commit_row

INPUT = 1_000 * PRICES["input_text_uncached"]
DAY = date(2026, 10, 5)
NOON = datetime(2026, 10, 5, 12, 30, tzinfo=UTC)
LATER = "20261103T100000Z-00000000000000bb-1"


@pytest.fixture
def card(clickhouse_client: Client, tmp_path: Path) -> str:
    return publish_card(clickhouse_client, tmp_path)


def call(name: str, card: str, tenant: str, times: int) -> dict[str, Any]:
    """A call of 1,000 input tokens, `times` times as large, by a tenant with a cost centre of its own."""
    tokens = {"input_text_uncached": 1_000 * times, "output_text_visible": None}
    return used(name, NOON, card, tenant_id=tenant, cost_centre=f"cc-{tenant}", **tokens)


def billed(calls: int, **changes: Any) -> dict[str, Any]:
    return line(DAY, "input_text_uncached", 1_000 * calls, INPUT * calls, **changes)


def charged(category: str, amount: int) -> dict[str, Any]:
    return line(DAY, "", None, amount, charge_category=category, model="", line_item=category)


def kept(client: Client, hour: int = 9, workload_class: str = "") -> KeptRun:
    wanted = Wanted("openai", "2026-10", workload_class)
    run = reconcile(client, wanted, Settings(), datetime(2026, 11, 3, hour, tzinfo=UTC))
    keep(client, run, "ada")
    return kept_run(client, run.run_id)


def said(rows: tuple[CorrectionRow, ...]) -> list[tuple[str | None, int | None, int | None]]:
    """Tenant, provider cost and charge of each entry."""
    return [(row.tenant_id, row.provider_cost, row.charge) for row in rows]


def test_tax_and_credits_are_shared_out_by_what_tenants_used(clickhouse_client: Client, card: str) -> None:
    write_facts(clickhouse_client, [call("r1", card, "acme", 2), call("r2", card, "globex", 1)])
    write_import(clickhouse_client, "i1", [billed(3), charged("tax", 100), charged("credit", -10)])
    entries = entries_of(clickhouse_client, kept(clickhouse_client), "run-1", "reviewed")
    assert said(entries.rows) == [("acme", -7, -7), ("globex", -3, -3), ("acme", 67, 67), ("globex", 33, 33)]
    assert {row.cost_centre for row in entries.rows} == {"cc-acme", "cc-globex"}
    assert {row.cause for row in entries.rows} == {"reconciliation"}
    assert [row.entry for row in entries.rows] == [0, 1, 2, 3]
    assert entries.rows[0].usage_hour == int(datetime(2026, 10, 1, tzinfo=UTC).timestamp()) * 1_000_000


def test_unmetered_use_is_borne_by_the_platform_and_charged_to_nobody(clickhouse_client: Client, card: str) -> None:
    write_facts(clickhouse_client, [call("r1", card, "acme", 1)])
    write_import(clickhouse_client, "i1", [billed(4)])
    [entry] = entries_of(clickhouse_client, kept(clickhouse_client), "run-1", "reviewed").rows
    assert (entry.tenant_id, entry.cost_centre, entry.absorbed_to) == ("unallocated",) * 3
    assert (entry.provider_cost, entry.absorbed, entry.charge) == (3 * INPUT, 3 * INPUT, 0)


def test_the_share_of_use_that_nobody_bears_is_the_platform_s(clickhouse_client: Client, card: str) -> None:
    nobody = call("r2", card, "", 1) | {"attribution": "unattributed", "cost_centre": ""}
    write_facts(clickhouse_client, [call("r1", card, "acme", 3), nobody])
    write_import(clickhouse_client, "i1", [billed(4), charged("tax", 100)])
    entries = entries_of(clickhouse_client, kept(clickhouse_client), "run-1", "reviewed")
    assert said(entries.rows) == [("acme", 75, 75), ("unallocated", 25, 0)]


def test_what_waits_or_is_priced_again_is_not_posted(clickhouse_client: Client, card: str) -> None:
    write_facts(clickhouse_client, [call("r1", card, "acme", 2)])
    write_import(clickhouse_client, "i1", [billed(2) | {"amount": billed(3)["amount"]}])
    run = kept(clickhouse_client)
    assert set(run.causes) == {"price_difference"}
    entries = entries_of(clickhouse_client, run, "run-1", "reviewed")
    assert entries.rows == ()
    keep_posting(clickhouse_client, run, entries, "ada", "reviewed", NOON)
    assert kept_run(clickhouse_client, run.run_id).state == "accepted"


def test_nothing_can_be_shared_out_where_nobody_used_the_provider(clickhouse_client: Client, card: str) -> None:
    write_import(clickhouse_client, "i1", [charged("tax", 100)])
    with pytest.raises(ReconcileError, match="tax of the provider cannot be shared out: no tenant used"):
        entries_of(clickhouse_client, kept(clickhouse_client), "run-1", "reviewed")


def test_a_run_that_compared_nothing_is_open_until_it_is_accepted(clickhouse_client: Client, card: str) -> None:
    write_facts(clickhouse_client, [call("r1", card, "acme", 1)])
    write_import(clickhouse_client, "i1", [billed(1)])
    run = kept(clickhouse_client, workload_class="batch")
    assert (run.state, run.causes) == ("open", {})
    keep_posting(clickhouse_client, run, entries_of(clickhouse_client, run, "run-1", "ok"), "ada", "ok", NOON)
    assert kept_run(clickhouse_client, run.run_id).state == "accepted"


def test_a_later_run_takes_back_what_an_earlier_one_posted(
    clickhouse_client: Client, clickhouse_database: ClickHouseSettings, card: str
) -> None:
    write_facts(clickhouse_client, [call("r1", card, "acme", 2), call("r2", card, "globex", 1)])
    write_import(clickhouse_client, "i1", [billed(3), charged("tax", 100)])
    first = kept(clickhouse_client)
    post(clickhouse_client, clickhouse_database, first, "20261103T090000Z-00000000000000aa-0")
    assert kept_run(clickhouse_client, first.run_id).state == "accepted"
    write_import(clickhouse_client, "i2", [billed(3), charged("tax", 40)], at=datetime(2026, 11, 2, tzinfo=UTC))
    second = kept(clickhouse_client, hour=10)
    entries = post(clickhouse_client, clickhouse_database, second, LATER)
    assert said(entries) == [("acme", 27, 27), ("globex", 13, 13), ("acme", -67, -67), ("globex", -33, -33)]
    states = [kept_run(clickhouse_client, run.run_id).state for run in (first, second)]
    assert states == ["superseded", "accepted"]
    third = kept(clickhouse_client, hour=11)
    rows = entries_of(clickhouse_client, third, "run-3", "again").rows
    assert sum(row.provider_cost or 0 for row in rows) == 0  # the same again, for what the second posted
    assert len(rows) == 4


def test_runs_of_both_classes_post_each_charge_once(clickhouse_client: Client, card: str) -> None:
    batch = {"workload_class": "batch"}
    write_facts(clickhouse_client, [call("r1", card, "acme", 1), call("b1", card, "globex", 1) | batch])
    write_import(clickhouse_client, "i1", [billed(1), billed(1, **batch), charged("tax", 100), charged("fee", 30)])
    realtime = kept(clickhouse_client, workload_class="realtime")
    late = kept(clickhouse_client, workload_class="batch")
    posted = [entries_of(clickhouse_client, run, "run-1", "reviewed").rows for run in (realtime, late)]
    assert [said(rows) for rows in posted] == [[("acme", 30, 30), ("acme", 100, 100)], []]
    assert realtime.invoiced + late.invoiced == kept(clickhouse_client).invoiced


@pytest.mark.parametrize(("first", "then"), [("", "realtime"), ("batch", "")])
def test_a_run_is_refused_where_an_accepted_one_has_amounts_of_it(
    clickhouse_client: Client, card: str, first: str, then: str
) -> None:
    write_facts(clickhouse_client, [call("r1", card, "acme", 1)])
    write_import(clickhouse_client, "i1", [billed(1)])
    accepted = kept(clickhouse_client, workload_class=first)
    keep_posting(clickhouse_client, accepted, Entries("", (), {}), "ada", "reviewed", NOON)
    later = kept(clickhouse_client, hour=10, workload_class=then)
    with pytest.raises(ReconcileError, match=f"run {accepted.run_id} of {first or 'all'} jobs is accepted"):
        entries_of(clickhouse_client, later, "run-2", "reviewed")


def post(client: Client, database: ClickHouseSettings, run: KeptRun, correction_run: str) -> tuple[CorrectionRow, ...]:
    """Stages and commits a run, as the command and the fold do."""
    entries = entries_of(client, run, correction_run, "reviewed")
    keep_posting(client, run, entries, "ada", "reviewed", datetime(2026, 11, 3, tzinfo=UTC) + timedelta(hours=1))
    with closing(ClickHouseSink(database)) as sink:
        staged = stage(sink, correction_run, entries.rows)
        offset = 1 if correction_run == LATER else 0
        sink.write("commits", rows_to_arrow("commits", [commit_row(staged, offset, cause="reconciliation")]))
    return entries.rows
