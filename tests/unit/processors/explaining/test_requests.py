"""A request as a whole: attempts with roles, what is absorbed, what supersedes, what was corrected, and the sum."""

from __future__ import annotations

from typing import Any

import pytest

from gatemeter.processors.corrections.rows import AMOUNTS
from gatemeter.processors.explaining.explanation import Explanation, explain
from gatemeter.processors.explaining.terms import Terms, TermsMissing
from gatemeter.processors.metadata.log import MetadataLog
from support.explained import Explained, card, metadata_log
from support.logs import OPERATOR, START_US, policy, request, response

PROVIDER, MARKUP = 396_000_007, 59_400_001  # of 100 and 20 tokens and the fee; 15 %, rounded on each


def fallen_back(**fields: Any) -> Explained:
    """Attempt 1 fails and is retried, attempt 2 fails and falls back, attempt 3 answers; two decisions."""
    world = Explained()
    world.response(response("r", 0, status="error", delivered=False, **fields))
    world.response(response("r", 1, attempt=2, status="timeout", delivered=False, **fields))
    world.response(response("r", 2, attempt=3, provider="google", model="long", **fields))
    world.policy(policy("r", 0, "d1", **{name: value for name, value in fields.items() if name == "tenant_id"}))
    world.policy(policy("r", 3, "d2", policy_id="flat", outcome="flag"))
    return world


def roles(explanation: Explanation) -> list[str]:
    return [item.standing.role for item in explanation.attempts]


def said(explanation: Explanation, attempt: int) -> str:
    return "\n".join(explanation.attempts[attempt].rules)


def test_every_attempt_is_charged_and_what_did_not_answer_is_told_apart() -> None:
    explanation = fallen_back().explain()
    assert explanation.problems == ()
    assert roles(explanation) == ["retried", "fallback", "answered"]
    assert (
        "retry rule all_provider_charged: this attempt did not answer (fallback)" in explanation.attempts[1].rules[-1]
    )
    assert "retry rule" not in said(explanation, 2)
    (total,) = explanation.totals
    long, markup = 160_000_000, 24_000_000
    decided, decided_markup = 3_021_000 + 10**9, 453_150 + 150_000_000
    assert total.retry_cost == 2 * (PROVIDER + MARKUP)
    assert total.money["charge"] == 2 * (PROVIDER + MARKUP) + long + markup + decided + decided_markup
    assert total.money["policy_cost"] == decided
    assert (total.parts, total.items, total.without_amount) == (total.money["charge"], 5, 0)


def test_final_only_absorbs_what_did_not_answer_and_names_who_bears_it() -> None:
    explanation = fallen_back(tenant_id="globex").explain()
    assert explanation.problems == ()
    first, second, third = explanation.attempts
    assert first.standing.counted.money["charge"] == second.standing.counted.money["charge"] == 0
    assert first.standing.counted.money["absorbed"] == first.recorded["charge"]
    assert first.standing.counted.absorbed_to == "retries"
    assert "retry rule final_only: this attempt did not answer (retried), its charge is absorbed by 'retries'" in (
        first.rules
    )
    assert third.standing.counted.money == third.recorded
    (total,) = explanation.totals
    assert total.money["absorbed"] == (first.recorded["charge"] or 0) + (second.recorded["charge"] or 0)
    assert (total.parts, total.retry_cost) == (total.money["charge"], 0)


def test_a_revision_supersedes_and_the_earlier_row_stays_in_sight() -> None:
    world = Explained()
    world.response(response("r", 0, usage_source="estimated"))
    world.response(response("r", 5, started_us=0, tokens=(7, 1), usage_revision=1))
    explanation = world.explain()
    assert explanation.problems == ()
    assert [(event.usage_revision, event.counts) for event in explanation.events] == [(0, False), (1, True)]
    (item,) = explanation.attempts
    assert item.fact["input_text_uncached"] == 7
    assert explanation.totals[0].money["provider_cost"] == 7 * 2_200_000 + 8_800_000 + 7


def test_events_say_where_they_came_from() -> None:
    world = Explained()
    world.unanswered(request("r", 0), denied=True)
    world.policy(policy("r", 0, "d", outcome="deny"))
    events = {event.kind: event for event in world.explain().events}
    assert set(events) == {"REQUEST", "POLICY"}
    seen = events["REQUEST"]
    assert (seen.place, seen.event_index, seen.kid, seen.epoch) == ("gatemeter.events[3]@17", 0, "a-1", "e-1")
    assert (seen.sequence, seen.evidence_grade, seen.identity_source) == (40, "A", "verified_credential")
    assert (seen.occurred_at_us, seen.recorded_at_us, seen.metadata_offset) == (START_US, START_US, 10)
    assert events["POLICY"].id == "d"


def test_the_path_goes_from_the_organisation_to_the_credential() -> None:
    world = Explained()
    world.response(response("r", 0, credential_fingerprint="f1"))
    (path,) = world.explain().paths
    assert list(path.steps.values()) == ["Acme Group", "insurance", "cc-1", "acme", "chat", "w-1", "f1"]
    assert (path.tenant_name, path.tenant_from_us, path.tenant_to_us, path.corrected) == ("Acme Ltd", 0, None, False)


def test_unpriced_attempts_are_counted_beside_the_sum() -> None:
    world = Explained()
    world.response(response("r", 0, status="error", delivered=False, model="unknown"))
    world.response(response("r", 1, attempt=2))
    (total,) = world.explain().totals
    assert (total.money["charge"], total.items, total.without_amount) == (PROVIDER + MARKUP, 2, 1)


def adjusted(world: Explained, cause: str, **amounts: int) -> Explanation:
    """The explanation after a correction of the only attempt was committed and sealed."""
    (fact,) = world.usage
    rows = world.rows()
    row = {name: fact[name] for name in (*AMOUNTS, "absorbed_to", "price_status", "currency", "plan_id")} | amounts
    row |= {"retry_rule": ""}
    row |= {"run_id": "run-1", "entry": 0, "target": "usage", "request_id": "r", "attempt": 1, "kid": "ops"}
    row |= {"response_hash": fact["response_hash"], "cause": cause, "reason": "contract", "rate_card_id": "card-2"}
    rows.corrections = [row | {"committed_hour": START_US}]
    for line in rows.lines:
        line.update(correction_run="run-1", **{name: row[name] for name in AMOUNTS})

    return explain(rows, Terms(world.log))


def test_a_correction_by_hand_takes_the_place_of_the_row() -> None:
    world = Explained()
    world.response(response("r", 0))
    amounts = {"provider_cost": 10, "token_cost": 10, "model_cost": 0, "markup": -4, "charge": 6}
    explanation = adjusted(world, "manual", **amounts)
    assert explanation.problems == ()
    (item,) = explanation.attempts
    assert item.recorded["charge"] == PROVIDER + MARKUP, "the row stays as it was folded, and is explained"
    correction = item.standing.correction
    assert correction is not None
    assert (correction.run_id, correction.cause, correction.reason, correction.kid) == (
        "run-1",
        "manual",
        "contract",
        "ops",
    )
    assert (correction.lines, explanation.totals[0].money["charge"]) == ((), 6)


def test_a_correction_that_does_not_add_up_is_told() -> None:
    world = Explained()
    world.response(response("r", 0))
    (problem,) = adjusted(world, "manual", charge=PROVIDER).problems[:1]
    assert problem.startswith(
        "attempt 1: the correction: components and mark-up less absorbed are 0.000455400008, charge"
    )


def test_a_repricing_unfolds_where_its_card_is_published() -> None:
    world = Explained(metadata_log(card("card-2"), card()))  # of equal dates the later record prices
    world.response(response("r", 0))
    explanation = adjusted(world, "reprice", markup=MARKUP)
    assert explanation.attempts[0].standing.correction is not None
    lines = explanation.attempts[0].standing.correction.lines
    assert [line.name for line in lines] == ["input_text_uncached", "output_text_visible", "request"]
    assert sum(line.provider_pico or 0 for line in lines) == PROVIDER
    other = adjusted(world, "reprice", markup=0, charge=PROVIDER)
    assert other.problems == ()
    assert other.attempts[0].standing.correction is not None
    assert other.attempts[0].standing.correction.lines == (), "the card does not give these amounts: nothing is made up"


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("charge", 1, "charge is 0.000000000001, the lines give 0.000455400008"),
        ("list_cost", 0, "list_cost is 0.000000000000, the lines give 0.000450000011"),
        ("token_cost", None, "token_cost is NULL, the lines give 0.000396000000"),
        ("input_text_uncached", 101, "token_cost is 0.000396000000, the lines give 0.000398200000"),
        ("price_status", "free", "price_status is 'free', the metadata gives 'priced'"),
        ("rate_card_hash", "0" * 64, f"rate_card_hash is '{'0' * 64}', the metadata gives"),
        ("plan_id", "claims", "plan_id is 'claims', the metadata gives 'standard'"),
        ("cost_centre", "cc-9", "cost_centre is 'cc-9', the metadata gives 'cc-1'"),
        ("currency", "EUR", "currency is 'EUR', the metadata gives 'USD'"),
    ],
)
def test_a_row_that_was_changed_does_not_add_up(column: str, value: Any, says: str) -> None:
    world = Explained()
    world.response(response("r", 0))[column] = value
    explanation = world.explain()
    assert not explanation.adds_up
    assert any(says in problem and problem.startswith("attempt 1: ") for problem in explanation.problems)


def test_a_decision_that_was_changed_does_not_add_up() -> None:
    world = Explained()
    world.policy(policy("r", 0, "d"))["charge"] = 5
    assert "decision d: charge is 0.000000000005, the lines give 0.000003474150" in world.explain().problems


def test_a_charge_line_that_differs_does_not_add_up() -> None:

    world = Explained()
    world.response(response("r", 0))
    rows = world.rows()
    rows.counted = [row | {"charge": 9} for row in rows.lines]
    problems = explain(rows, Terms(world.log)).problems
    assert "attempt 1: the charge line says charge 0.000000000009, it must be 0.000455400008" in problems
    assert "the sum in USD: components 0.000455400008, charge lines 0.000000000009" in problems
    rows.counted = []
    (first, *_) = explain(rows, Terms(world.log)).problems
    assert first == "attempt 1: the charge lines have no line of this row: it is in no total"


def test_ledger_entries_must_add_up_to_what_counts() -> None:

    world = Explained()
    world.response(response("r", 0))
    rows = world.rows()
    rows.counted = [row | {"posting_period": "2026-05"} for row in rows.lines]
    (entry,) = rows.counted
    back = {**entry, **{name: -(entry[name] or 0) for name in AMOUNTS}}
    rows.ledger = [entry, back, entry]
    assert explain(rows, Terms(world.log)).problems == ()
    rows.ledger = [entry, back]
    assert (
        explain(rows, Terms(world.log))
        .problems[0]
        .startswith("attempt 1: its 2 ledger entries add up to list_cost 0.000000000000, it must be 0.000450000011")
    )


def test_without_prices_only_what_is_recorded_is_checked() -> None:
    world = Explained()
    row = world.response(response("r", 0))
    row["rate_card_hash"] = "0" * 64
    explanation = world.explain(without_prices=True)
    assert (explanation.problems, explanation.prices_from) == ((), "")
    assert explanation.attempts[0].reckoned is None
    row["markup"] += 1
    assert "attempt 1: the row: components and mark-up less absorbed" in world.explain(without_prices=True).problems[0]


def test_a_metadata_log_that_is_too_short_is_an_error_not_a_guess() -> None:
    world = Explained()
    world.response(response("r", 0))
    short = Terms(MetadataLog({OPERATOR.kid: OPERATOR.public_hex}))
    with pytest.raises(TermsMissing, match=r"needed below offset 10, topic gatemeter.metadata ends at 0"):
        explain(world.rows(), short)
