"""The views against hand-made facts: one truth an attempt, roles, the retry rule, amounts to the last digit."""

from __future__ import annotations

from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.schemas.tables import BUCKETS, INPUT_BUCKETS, METERS, OUTPUT_BUCKETS
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from support.facts import HOUR_US, NOON_US, decision, exact, fact


class Facts:
    """Writes rows and asks the views."""

    def __init__(self, settings: ClickHouseSettings, client: Client) -> None:
        self.sink = ClickHouseSink(settings)
        self.client = client

    def usage(self, *rows: dict[str, Any]) -> None:
        for row in rows:  # an insert each: nothing is merged before it is read
            self.sink.write("usage_facts", rows_to_arrow("usage_facts", [row]))

    def decisions(self, *rows: dict[str, Any]) -> None:
        self.sink.write("policy_facts", rows_to_arrow("policy_facts", list(rows)))

    def rows(self, sql: str) -> list[dict[str, Any]]:
        return list(self.client.query(sql).named_results())

    def roles(self) -> dict[int, str]:
        return {row["attempt"]: row["attempt_role"] for row in self.rows("SELECT attempt, attempt_role FROM attempts")}


@pytest.fixture
def facts(clickhouse_database: ClickHouseSettings, clickhouse_client: Client) -> Facts:
    clickhouse_client.command("SYSTEM STOP MERGES")
    return Facts(clickhouse_database, clickhouse_client)


def test_the_delivered_attempt_answered_and_another_ok_lost_the_hedge(facts: Facts) -> None:
    facts.usage(fact("r", 1, delivered=True), fact("r", 2, delivered=False))
    assert facts.roles() == {1: "answered", 2: "hedge_lost"}


def test_without_a_delivery_the_last_ok_answered(facts: Facts) -> None:
    facts.usage(fact("r", 1), fact("r", 2), fact("r", 3, status="error"))
    assert facts.roles() == {1: "hedge_lost", 2: "answered", 3: "failed"}


def test_a_delivered_error_answered(facts: Facts) -> None:
    facts.usage(fact("r", 1, status="ok", delivered=False), fact("r", 2, status="error", delivered=True))
    assert facts.roles() == {1: "hedge_lost", 2: "answered"}


def test_an_error_before_the_same_model_was_retried_before_another_fell_back(facts: Facts) -> None:
    facts.usage(
        fact("r", 1, status="error"),
        fact("r", 2, status="timeout"),
        fact("r", 3, model="claude", status="cancelled"),
        fact("r", 4, model="claude"),
    )
    assert facts.roles() == {1: "retried", 2: "fallback", 3: "cancelled", 4: "answered"}


def test_an_orphan_that_follows_makes_a_retry_and_fails_itself(facts: Facts) -> None:
    orphan = fact("r", 2, status="orphan", has_response=False, response_hash="", version=1, charge=None)
    facts.usage(fact("r", 1, status="error"), orphan)
    assert facts.roles() == {1: "retried", 2: "failed"}


def test_attempts_of_other_gateways_and_requests_do_not_mix(facts: Facts) -> None:
    facts.usage(fact("r", 1, status="error"), fact("r", 2, gateway_id="other"), fact("s", 2))
    rows = facts.rows("SELECT gateway_id, request_id, attempt_role FROM attempts WHERE attempt = 1")
    assert [row["attempt_role"] for row in rows] == ["failed"]


def test_a_superseded_orphan_and_an_earlier_revision_are_gone(facts: Facts) -> None:
    orphan = fact("r", status="orphan", has_response=False, response_hash="", version=5, charge=None)
    late = fact("r", response_hash="b", version=(1 << 63) + 2, usage_revision=1, charge=50)
    facts.usage(orphan, late | {"posted_hour": NOON_US + 3 * HOUR_US}, fact("r", version=(1 << 63) + 1))
    rows = facts.rows("SELECT response_hash, charge FROM attempts")
    assert rows == [{"response_hash": "b", "charge": exact(50)}]


def test_two_posted_hours_and_unmerged_copies_are_one_attempt(facts: Facts) -> None:
    row = fact("r")
    facts.usage(row, row, row | {"posted_hour": NOON_US + HOUR_US, "version": (1 << 63) - 1})
    (line,) = facts.rows("SELECT requests, attempts, charge FROM chargeback_monthly")
    assert (line["requests"], line["attempts"], line["charge"]) == (1, 1, exact(33))


def test_decisions_are_added_never_joined(facts: Facts) -> None:
    facts.usage(fact("r", 1, status="error"), fact("r", 2))
    facts.decisions(decision("d1", "r"), decision("d2", "r", outcome="redact"), decision("d1", "r"))
    (total,) = facts.rows(
        "SELECT sum(policy_cost) AS policy, sum(charge) AS charge, sum(policy_decisions) AS n FROM chargeback_daily"
    )
    assert total == {"policy": exact(10), "charge": exact(33 * 2 + 6 * 2), "n": 2}
    (history,) = facts.rows("SELECT attempts, retries, policies, charge, retry_cost FROM request_history")
    assert (history["attempts"], history["retries"]) == (2, 1)
    assert (history["charge"], history["retry_cost"]) == (exact(78), exact(33))
    assert [(p["policy_id"], p["policy_version"], p["outcome"]) for p in history["policies"]] == [
        ("pii", "7", "allow"),
        ("pii", "7", "redact"),
    ]


def test_retry_cost_is_an_of_which(facts: Facts) -> None:
    facts.usage(fact("r", 1, status="error"), fact("r", 2))
    (line,) = facts.rows("SELECT token_cost, markup, charge, absorbed, retry_cost FROM chargeback_hourly")
    assert line["charge"] == line["token_cost"] + line["markup"] == exact(66)
    assert (line["retry_cost"], line["absorbed"]) == (exact(33), exact(0))


def test_final_only_absorbs_what_did_not_answer(facts: Facts) -> None:
    facts.usage(fact("r", 1, status="error", retry_rule="final_only"), fact("r", 2, retry_rule="final_only"))
    (line,) = facts.rows("SELECT token_cost, markup, charge, absorbed, retry_cost FROM chargeback_hourly")
    assert line["charge"] == exact(33)
    assert line["charge"] + line["absorbed"] == line["token_cost"] + line["markup"]
    assert line["retry_cost"] == exact(0)
    rows = facts.rows("SELECT fact_charge, charge, absorbed_to FROM attempts ORDER BY attempt")
    assert rows[0] == {"fact_charge": exact(33), "charge": exact(0), "absorbed_to": "retries"}
    assert rows[1] == {"fact_charge": exact(33), "charge": exact(33), "absorbed_to": ""}


def test_final_only_without_an_answer_charges_nothing(facts: Facts) -> None:
    facts.usage(fact("r", 1, status="error", retry_rule="final_only"))
    (line,) = facts.rows("SELECT charge, absorbed FROM chargeback_hourly")
    assert line == {"charge": exact(0), "absorbed": exact(33)}


def test_unpriced_usage_is_null_money_with_its_quantity_beside(facts: Facts) -> None:
    unknown = dict.fromkeys(("list_cost", "provider_cost", "token_cost", "model_cost", "markup", "charge"))
    facts.usage(fact("r", price_status="unpriced", currency="", **unknown))
    (line,) = facts.rows("SELECT charge, unpriced_tokens, unpriced_attempts FROM chargeback_daily")
    assert line == {"charge": None, "unpriced_tokens": 120, "unpriced_attempts": 1}


def test_estimates_are_told_apart_and_currencies_never_add(facts: Facts) -> None:
    facts.usage(fact("r", usage_source="estimated"), fact("s", currency="EUR"))
    facts.usage(fact("t", provider_cost=20, charge=22))
    names = "currency, estimated_tokens, estimated_charge, estimated_provider_cost, charge"
    for view in ("chargeback_hourly", "chargeback_daily", "chargeback_monthly"):
        rows = facts.rows(f"SELECT {names} FROM {view} ORDER BY currency")
        assert [tuple(row.values()) for row in rows] == [
            ("EUR", 0, exact(0), exact(0), exact(33)),
            ("USD", 120, exact(33), exact(30), exact(55)),
        ]
    rows = facts.rows("SELECT request_id, charge, estimated_charge FROM request_history ORDER BY request_id")
    assert [row["estimated_charge"] for row in rows] == [exact(33), exact(0), exact(0)]


@pytest.mark.parametrize("view", ["chargeback_hourly", "chargeback_daily", "chargeback_monthly"])
def test_attempts_that_do_not_add_up_are_counted_beside_their_money(facts: Facts, view: str) -> None:
    facts.usage(fact("r", usage_consistency="mismatch"), fact("s", usage_consistency="consistent"), fact("t"))
    (row,) = facts.rows(f"SELECT inconsistent_attempts, attempts, charge FROM {view}")
    assert row == {"inconsistent_attempts": 1, "attempts": 3, "charge": exact(99)}


def test_a_request_in_two_currencies_has_no_total(facts: Facts) -> None:
    facts.usage(fact("r", 1, status="error", currency="EUR"), fact("r", 2))
    (row,) = facts.rows("SELECT currencies, charge FROM request_history")
    assert row == {"currencies": ["EUR", "USD"], "charge": None}


@pytest.mark.parametrize("pico", [1, 10**20 * 10**12, 10**20 * 10**12 + 1])
def test_amounts_are_exact_from_the_smallest_to_the_largest(facts: Facts, pico: int) -> None:
    facts.usage(fact("r", charge=pico), fact("s", charge=pico), fact("t", charge=1))
    (line,) = facts.rows("SELECT charge FROM chargeback_monthly")
    assert line["charge"] == exact(2 * pico + 1)


def test_periods_are_of_the_usage_and_late_posting_is_told(facts: Facts) -> None:
    facts.usage(fact("r"), fact("s", posted_hour=NOON_US + 5 * HOUR_US))
    (line,) = facts.rows("SELECT toString(hour) AS hour, charge, late_charge FROM chargeback_hourly")
    assert line == {"hour": "2026-03-01 12:00:00.000000", "charge": exact(66), "late_charge": exact(33)}


_OF_ACME = "(tenant = 'acme', first_hour = '2026-03-01 00:00:00', last_hour = '2026-03-01 23:00:00')"
_ASKED = {
    **dict.fromkeys(("charge_lines_of", "unsealed_of"), _OF_ACME),
    "retry_groups_of": "(keys = [])",
    "facts_between": "(since = '2026-03-01 00:00:00', until = '2026-03-02 00:00:00')",
}


def test_no_view_has_a_float(facts: Facts) -> None:
    views = facts.rows("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'")
    assert len(views) == 58
    for view in views:
        asked = "(through = '2026-03-01 12:00:00')" if view["name"].endswith("_as_of") else ""
        asked = _ASKED.get(view["name"], asked)
        columns = facts.client.query(f"DESCRIBE TABLE (SELECT * FROM {view['name']}{asked})").result_rows
        assert not [column for column in columns if "Float" in column[1]], view["name"]


@pytest.mark.parametrize("view", ["chargeback_hourly", "chargeback_daily", "chargeback_monthly"])
def test_every_bucket_and_meter_is_a_column_with_its_own_sum(facts: Facts, view: str) -> None:
    quantities = {name: index for index, name in enumerate((*BUCKETS, *METERS), start=1)}
    facts.usage(fact("r", **quantities), fact("s", **quantities))
    (line,) = facts.rows(f"SELECT * FROM {view}")
    assert {name: line[name] for name in quantities} == {name: 2 * count for name, count in quantities.items()}
    assert line["input_tokens"] == 2 * sum(quantities[name] for name in INPUT_BUCKETS)
    assert line["output_tokens"] == 2 * sum(quantities[name] for name in OUTPUT_BUCKETS)


def test_a_request_unfolds_into_quantities_prices_and_plans(facts: Facts) -> None:
    priced = {"rate_card_id": "card-1", "rate_card_hash": "aa", "plan_id": "standard", "metadata_offset": 7}
    facts.usage(fact("r", 1, status="error", searches=0, **priced), fact("r", 2, **priced))
    facts.usage(fact("r", 2, posted_hour=NOON_US + HOUR_US, version=5, **(priced | {"rate_card_hash": "bb"})))
    facts.decisions(decision("d", "r", attempt=1, prices_id="guards", plan_id="standard", metadata_offset=8))
    (row,) = facts.rows("SELECT charges, charge FROM request_history")
    judged, first, second = row["charges"]
    assert (judged["kind"], judged["decision_id"], judged["rate_card_id"], judged["metadata_offset"]) == (
        *("decision", "d", "guards", 8),
    )
    assert first["quantities"] == {"input_text_uncached": 100, "output_text_visible": 20, "searches": 0}
    assert [(line["kind"], line["attempt"]) for line in (first, second)] == [("usage", 1), ("usage", 2)]
    for line in (first, second):
        assert (line["rate_card_id"], line["rate_card_hash"], line["plan_id"]) == ("card-1", "aa", "standard")
        assert (line["metadata_offset"], line["seal_id"], line["posting_period"]) == (7, "", "")
        assert line["token_cost"] + line["markup"] == line["charge"] + line["absorbed"] == exact(33)
    assert sum(line["charge"] for line in row["charges"]) == row["charge"]
