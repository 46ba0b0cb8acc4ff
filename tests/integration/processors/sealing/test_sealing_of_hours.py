"""Hours become seals and ledger entries, on the real ClickHouse engine: what is posted, when, and never twice."""

from __future__ import annotations

from typing import Any

import pytest

from gatemeter.processors.sealing.chain import SealsRecord
from gatemeter.processors.sealing.contents import SealStopped
from gatemeter.schemas import merkle
from gatemeter.schemas.signing import OperatorKey
from support.facts import decision, exact, fact
from support.mutations import mutate
from support.sealing import SEALS_TOPIC, TRUSTED, Crash, Hours, MemoryTopic, Mortal, Sealer, at, free, replacement
from support.seals import SEALER, record, seal_datum

TOTALS = """
    SELECT tenant_id, currency,
        sum(requests) AS requests, sum(attempts) AS attempts, sum(policy_decisions) AS decisions,
        sum(input_tokens) AS input, sum(output_tokens) AS output, sum(token_cost) AS token, sum(policy_cost) AS policy,
        sum(markup) AS markup, sum(charge) AS charge, sum(absorbed) AS absorbed, sum(retry_cost) AS retry
    FROM chargeback_hourly GROUP BY tenant_id, currency ORDER BY tenant_id, currency
"""

# all but what the seals add: where each line is booked
HISTORY = """
    SELECT * EXCEPT charges,
        arrayMap(x -> (x.kind, x.attempt, x.decision_id, x.quantities, x.rate_card_id, x.rate_card_hash, x.plan_id,
            x.provider_cost, x.charge), charges) AS unfolded
    FROM request_history ORDER BY request_id
"""


def mixed(hours: Hours) -> None:
    hours.usage(
        fact("a"),
        fact("b", 1, status="error", retry_rule="final_only"),
        fact("b", 2, retry_rule="final_only"),
        fact("c", posted=1),
        fact("d", posted=2, used=0),
        fact("e", posted=2, tenant_id="other", currency="EUR"),
        fact("u", posted=1, price_status="unpriced", charge=None, token_cost=None, currency=""),
    )
    hours.decisions(decision("p1", "a"), decision("p2", "c", posted=1), decision("p3", "a", posted=2, used=0))


def test_an_hour_is_sealed_with_a_leaf_a_row_and_an_entry_a_line(hours: Hours) -> None:
    hours.usage(fact("b", 1, status="error"), fact("b", 2), fact("a"))
    hours.decisions(decision("p", "a"))
    hours.over(0)
    sealed = hours.seal()
    (seal,) = sealed.hours
    assert (seal.number, seal.posted_hour_us, seal.leaves, seal.entries) == (0, at(0), 4, 4)
    assert (
        sealed.waiting == "hour 2026-03-01T13:00:00Z: gatemeter.events[0] has reached 2026-03-01T13:00:00Z, "
        "the hour ends at 2026-03-01T14:00:00Z"
    )
    entries = hours.ledger("entry, kind, request_id, decision_id, attempt, cause, posting_period, charge")
    assert entries == [
        (0, "decision", "a", "p", 0, "usage", "2026-03", exact(6)),
        (1, "usage", "a", "", 1, "usage", "2026-03", exact(33)),
        (2, "usage", "b", "", 1, "usage", "2026-03", exact(33)),
        (3, "usage", "b", "", 2, "usage", "2026-03", exact(33)),
    ]
    leaves = hours.client.query("SELECT leaf FROM seal_leaves ORDER BY leaf_index", settings={}).result_rows
    assert len(leaves) == 4


def test_the_roots_are_those_of_the_staged_rows(hours: Hours) -> None:
    hours.rows_a_range = 2
    mixed(hours)
    hours.over(2)
    hours.seal()
    for seal in hours.topic.chain().seals:
        asked = {"id": seal.seal_id.hex()}
        rows = hours.client.query_arrow(
            "SELECT leaf FROM seal_leaves FINAL WHERE seal_id = {id:String} ORDER BY leaf_index",
            asked,
            use_strings=False,
        )
        assert merkle.root_of(rows.column("leaf").to_pylist()) == seal.leaves_root
        assert rows.num_rows == seal.leaves


def test_totals_are_the_same_before_while_and_after_sealing(hours: Hours) -> None:
    hours.rows_a_range = 1
    mixed(hours)
    before = hours.rows(TOTALS)
    history = hours.rows(HISTORY)
    for hour in (0, 1, 2):
        hours.over(hour)
        assert len(hours.seal().hours) == 1
        assert hours.rows(TOTALS) == before
        assert hours.rows(HISTORY) == history
    assert hours.rows("SELECT count() AS open FROM charge_lines WHERE posting_period = ''") == [{"open": 0}]


def test_empty_hours_are_sealed_too_and_nothing_before_the_first_posted_hour(hours: Hours) -> None:
    hours.over(-5)
    assert hours.seal().waiting == "nothing was posted before 2026-03-01T08:00:00Z"
    hours.usage(fact("a"), fact("b", posted=3))
    hours.over(3)
    sealed = hours.seal()
    assert [(seal.posted_hour_us, seal.leaves) for seal in sealed.hours] == [
        (at(0), 1),
        (at(1), 0),
        (at(2), 0),
        (at(3), 1),
    ]
    assert sealed.hours[1].leaves_root == sealed.hours[1].entries_root == merkle.EMPTY_ROOT


def test_sealing_goes_as_far_as_it_is_asked_to(hours: Hours) -> None:
    hours.usage(fact("a"))
    hours.over(4)
    assert len(hours.seal(through=1).hours) == 2
    assert len(hours.seal(through=1).hours) == 0
    assert hours.seal(through=4).tip.number == 4  # type: ignore[union-attr]


def test_a_repeated_run_seals_nothing_and_writes_nothing(hours: Hours) -> None:
    mixed(hours)
    hours.over(2)
    hours.seal()
    counts = "SELECT (SELECT count() FROM ledger) AS l, (SELECT count() FROM seal_leaves) AS s, count() AS n FROM seals"
    before = hours.rows(counts)
    assert hours.seal().hours == []
    assert hours.rows(counts) == before
    assert len(hours.topic.records) == 3


def test_trace_04_two_sealers_and_one_that_died_between_ledger_and_commit_make_one_ledger(hours: Hours) -> None:
    mixed(hours)
    hours.over(2)

    class DiesBeforeTheCommit(Mortal):
        def append(self, key: bytes, value: bytes, headers: Any) -> None:
            raise Crash

    with pytest.raises(Crash):
        hours.sealer(topic=DiesBeforeTheCommit(hours.sink, hours.topic, 1000, applied=True)).run()
    assert hours.topic.records == []
    assert hours.rows("SELECT count() > 0 AS staged FROM ledger") == [{"staged": 1}]
    assert hours.ledger() == []
    slow, quick = hours.sealer(), hours.sealer()
    slow.catch_up()
    quick.run(at(1))
    assert len(slow.run().hours) == 1  # it wanted hour 0; the other one was faster
    once = hours.ledger()
    assert [entry[:4] for entry in once if entry[2] == "a" and entry[3] == 1] == [(1, "usage", "a", 1)]
    hours.client.command("OPTIMIZE TABLE ledger FINAL")
    assert hours.ledger() == once
    assert [seal.number for seal in hours.topic.chain().seals] == [0, 1, 2]


def test_a_sealer_that_lost_the_race_has_no_effect(hours: Hours) -> None:
    hours.usage(fact("a"))
    hours.over(0)
    sealer = hours.sealer()
    rival = seal_datum(0, leaves_root=b"r" * 32)

    class Race(Mortal):
        def append(self, key: bytes, value: bytes, headers: Any) -> None:
            if not hours.topic.records:
                hours.topic.records.append(record(0, "Seal", rival, SEALER))
            super().append(key, value, headers)

    race = Race(hours.sink, hours.topic, 1000, applied=False)
    done = hours.sealer(topic=race).run()
    assert done.hours == []
    assert done.tip is not None
    assert done.tip.leaves_root == b"r" * 32
    assert hours.ledger() == []
    assert sealer.run().hours == []


def test_trace_05_an_orphan_is_sealed_and_the_response_comes_later(hours: Hours) -> None:
    unknown = dict.fromkeys(
        ("list_cost", "provider_cost", "token_cost", "model_cost", "policy_cost", "markup", "charge")
    )
    orphan = fact(
        "r", status="orphan", has_response=False, response_hash="", version=5, price_status="no_usage", **unknown
    )
    hours.usage(orphan)
    hours.over(0)
    hours.seal()
    first = hours.roots(0)
    hours.usage(fact("r", posted=2, used=0))
    hours.over(2)
    hours.seal()
    again = hours.roots(0)
    seals = hours.topic.chain().seals
    assert again == first
    assert (seals[0].leaves_root, seals[0].entries_root) == first
    place = f"{seals[0].seal_id.hex()}:0"
    assert hours.ledger("cause, status, reverses, reference, charge") == [
        ("usage", "orphan", "", "", None),
        ("revision", "orphan", place, "", None),
        ("revision", "ok", "", place, exact(33)),
    ]
    assert hours.rows("SELECT charge FROM chargeback_daily") == [{"charge": exact(33)}]


def test_trace_06_an_hour_waits_for_the_partition_that_lags(hours: Hours) -> None:
    hours.topic.partitions = 3
    hours.usage(fact("a"))
    hours.over(5, 0, 2)
    assert hours.seal().waiting == "gatemeter.events[1] has no checkpoint"
    hours.over(-1, 1)
    assert hours.seal().waiting == "nothing was posted before 2026-03-01T12:00:00Z"
    hours.over(0, 1)
    assert [seal.posted_hour_us for seal in hours.seal().hours] == [at(0)]
    assert "hour 2026-03-01T13:00:00Z: gatemeter.events[1] has reached 2026-03-01T13:00:00Z" in hours.seal().waiting


def test_trace_22_what_is_absorbed_of_a_sealed_attempt_posts_as_a_delta(hours: Hours) -> None:
    failed = fact("r", 1, status="error", retry_rule="final_only", retry_cost_centre="cc-9", delivered=True)
    hours.usage(failed)
    hours.over(0)
    hours.seal()
    assert hours.ledger("attempt_role, charge, absorbed") == [("answered", exact(33), exact(0))]
    hours.usage(fact("r", 2, retry_rule="final_only", delivered=True, posted=1, used=0))
    hours.over(1)
    hours.seal()
    place = f"{hours.topic.chain().seals[0].seal_id.hex()}:0"
    assert hours.ledger(
        "attempt, cause, attempt_role, charge, absorbed, absorbed_to, reverses", "posted_hour > '2026-03-01 12:30:00'"
    ) == [
        (1, "retry_rule", "answered", exact(-33), exact(0), "", place),
        (1, "retry_rule", "retried", exact(0), exact(33), "cc-9", ""),
        (2, "late", "answered", exact(33), exact(0), "", ""),
    ]
    (line,) = hours.rows("SELECT charge, absorbed, attempts, input_tokens FROM chargeback_hourly")
    assert line == {"charge": exact(33), "absorbed": exact(33), "attempts": 2, "input_tokens": 200}


def test_trace_23_a_plan_that_changes_after_the_seal_leaves_the_old_seal_as_it_was(hours: Hours) -> None:
    hours.usage(fact("r", 1, status="error", retry_rule="final_only"), fact("r", 2, retry_rule="final_only"))
    hours.over(0)
    hours.seal()
    # the plan of the tenant is all_provider_charged from now on: later facts say so, earlier ones keep their own rule
    hours.usage(fact("r", 3, posted=1, used=0, retry_rule="all_provider_charged", status="error"))
    hours.over(1)
    hours.seal()
    seals = hours.topic.chain().seals
    again = hours.roots(0)
    assert again == (seals[0].leaves_root, seals[0].entries_root)
    later = hours.ledger("attempt, cause, charge", "posted_hour > '2026-03-01 12:30:00'")
    assert later == [(3, "late", exact(33))]


def test_trace_24_a_commit_that_was_appended_twice_posts_one_entry(hours: Hours) -> None:
    hours.usage(fact("r"))
    hours.correct(1, free(-500), replacement("r"))
    (commit,) = hours.rows("SELECT * FROM commits")
    again = commit | {"version": commit["version"] - 1, "offset": commit["offset"] + 1}
    columns = ", ".join(f"`{name}`" for name in again)
    hours.client.insert("commits", [list(again.values())], column_names=list(again))
    assert columns
    hours.over(2)
    hours.seal()
    assert hours.ledger("kind, cause, reference, reason, charge", "posted_hour > '2026-03-01 12:30:00'") == [
        ("correction", "manual", "run-1", "credit", exact(-500)),
        ("usage", "reprice", "", "new card", exact(-33)),
        ("usage", "reprice", "run-1", "new card", exact(7)),
    ]
    (total,) = hours.rows("SELECT sum(charge) AS charge FROM chargeback_monthly")
    assert total == {"charge": exact(-493)}


def test_trace_25_a_repricing_of_revision_0_does_not_touch_revision_1(hours: Hours) -> None:
    hours.usage(fact("r"))
    hours.usage(
        fact("r", response_hash="rev1", usage_revision=1, version=(1 << 63) + (1 << 56), charge=50, posted=1, used=0)
    )
    hours.correct(1, replacement("r"))
    hours.over(1)
    hours.seal()
    assert hours.ledger("cause, charge") == [("usage", exact(33)), ("revision", exact(-33)), ("revision", exact(50))]
    (found,) = hours.rows("SELECT kind, topic, offset, event_index, request_id, detail FROM exceptions")
    assert (found["kind"], found["topic"], found["offset"], found["event_index"]) == (
        "correction_superseded",
        SEALS_TOPIC,
        1,
        0,
    )
    assert '"true_hash": "rev1"' in found["detail"]


def test_trace_26_a_late_event_after_the_grace_was_raised_reaches_the_ledger(hours: Hours) -> None:
    hours.usage(fact("a"))
    hours.over(0)
    hours.seal()
    # the floor never sinks: whatever the grace is now, what comes posts to an hour that is not sealed
    hours.usage(fact("late", posted=1, used=0))
    hours.over(1)
    hours.seal()
    assert hours.ledger("cause, request_id, toString(usage_hour)", "request_id = 'late'") == [
        ("late", "late", "2026-03-01 12:00:00.000000")
    ]


def test_trace_27_another_start_beyond_the_horizon_is_one_charge_and_one_exception(hours: Hours) -> None:
    hours.usage(fact("r"))
    hours.over(0)
    hours.seal()
    hours.usage(fact("r", response_hash="other", version=(1 << 63) - 1, posted=1))
    hours.over(2)
    hours.seal()
    kinds = hours.rows("SELECT kind, offset, attempt, detail FROM exceptions ORDER BY event_index")
    assert [(row["kind"], row["offset"], row["attempt"]) for row in kinds] == [
        ("start_mismatch", 1, 1),
        ("content_conflict", 1, 1),
    ]
    assert f"[{at(0) + 1}, {at(1) + 1}]" in kinds[0]["detail"]
    assert hours.rows("SELECT sum(charge) AS c, sum(requests) AS n FROM chargeback_monthly") == [
        {"c": exact(33), "n": 1}
    ]
    assert len(hours.ledger()) == 1


def test_a_sealer_that_dies_while_it_copies_a_seal_loses_none_of_its_exceptions(hours: Hours) -> None:
    """Whoever finds the row in `seals` copies nothing of that seal again: the exceptions must be there before."""
    hours.usage(fact("r"))
    hours.over(0)
    hours.seal()
    hours.usage(fact("r", response_hash="other", version=(1 << 63) - 1, posted=1))
    hours.over(1)

    class DiesWhenTheSealIsCopied(Mortal):
        def write(self, table: str, rows: Any) -> None:
            super().write(table, rows)
            if table == "seals":
                raise Crash

    with pytest.raises(Crash):
        hours.sealer(sink=DiesWhenTheSealIsCopied(hours.sink, hours.topic, 1000, applied=True)).run()
    assert [seal.number for seal in hours.topic.chain().seals] == [0, 1]
    hours.seal()
    kinds = hours.rows("SELECT kind FROM exceptions FINAL ORDER BY event_index")
    assert [row["kind"] for row in kinds] == ["start_mismatch", "content_conflict"]


def test_corrections_that_are_not_sealed_do_not_count_and_sealed_ones_do_in_open_requests_too(hours: Hours) -> None:
    hours.usage(fact("r"))
    hours.over(0)
    hours.seal()
    hours.correct(1, replacement("r", tenant_id="umbrella"))
    assert hours.rows("SELECT tenant_id, charge FROM chargeback_daily") == [{"tenant_id": "acme", "charge": exact(33)}]
    hours.over(1)
    hours.seal()
    corrected = [{"tenant_id": "umbrella", "charge": exact(7)}]
    assert hours.rows("SELECT tenant_id, charge FROM chargeback_daily") == corrected
    hours.usage(fact("r", 2, posted=3, used=0, charge=1))  # the request is open again: read from facts
    rows = hours.rows("SELECT tenant_id, attempt, charge FROM charge_lines ORDER BY attempt")
    assert rows == [
        {"tenant_id": "umbrella", "attempt": 1, "charge": exact(7)},
        {"tenant_id": "acme", "attempt": 2, "charge": exact(1)},
    ]


def test_a_run_whose_rows_were_changed_stops_sealing_by_its_name(hours: Hours) -> None:
    hours.usage(fact("r"))
    hours.correct(0, replacement("r"), run="run-9")
    mutate(hours.client, "corrections", "UPDATE charge = 6 WHERE 1")
    hours.over(0)
    with pytest.raises(SealStopped, match=r"hour 2026-03-01T12:00:00Z cannot be sealed: run run-9"):
        hours.seal()
    assert hours.topic.records == []


def test_after_a_month_is_closed_later_entries_are_booked_in_the_oldest_open_one(hours: Hours) -> None:
    hours.usage(fact("r"))
    hours.over(0)
    hours.seal()
    hours.topic.close_period("2026-03", after=0)
    hours.usage(fact("late", posted=1, used=0))
    hours.correct(1, replacement("r"))
    hours.over(1)
    (seal,) = hours.seal().hours
    assert seal.open_period == "2026-04"
    booked = hours.ledger("request_id, usage_period, posting_period", "posted_hour > '2026-03-01 12:30:00'")
    assert booked == [("late", "2026-03", "2026-04"), ("r", "2026-03", "2026-04"), ("r", "2026-03", "2026-04")]
    assert hours.rows("SELECT posting_period, sum(charge) AS c FROM postings GROUP BY posting_period ORDER BY 1") == [
        {"posting_period": "2026-03", "c": exact(33)},
        {"posting_period": "2026-04", "c": exact(7)},
    ]
    (closed,) = hours.rows("SELECT period, after_seal, kid, reason FROM closed_periods")
    assert closed == {"period": "2026-03", "after_seal": 0, "kid": "ops", "reason": "month end"}
    (act,) = hours.rows("SELECT act, subject, kid, reason, topic, offset FROM operator_log")
    assert act == {
        "act": "close_period",
        "subject": "2026-03",
        "kid": "ops",
        "reason": "month end",
        "topic": SEALS_TOPIC,
        "offset": 1,
    }


def test_a_topic_that_was_cut_or_made_anew_stops_sealing(hours: Hours) -> None:
    hours.usage(fact("a"))
    hours.over(1)
    hours.seal()
    kept = hours.topic.records
    hours.topic.records = kept[:1]
    with pytest.raises(SealStopped, match=r"ClickHouse holds seal 1, gatemeter\.seals ends at 0"):
        hours.seal()
    hours.topic.records = [record(0, "Seal", seal_datum(0), SEALER), kept[1]]
    mutate(hours.client, "seals", "DELETE WHERE number = 1")
    with pytest.raises(
        SealStopped, match=r"seal 0 is .* in ClickHouse and .* in gatemeter\.seals: run gatemeter audit"
    ):
        hours.seal()


def test_a_key_that_nobody_knows_is_refused_before_anything_is_sealed(hours: Hours) -> None:
    with pytest.raises(SealStopped, match="the sealer's key 'sealer-1' is not among the public keys"):
        Sealer(
            hours.client, hours.sink, hours.topic, OperatorKey.generate("sealer-1"), TRUSTED, seals_topic=SEALS_TOPIC
        )


def test_a_ledger_line_without_facts_stops_sealing(hours: Hours) -> None:
    hours.usage(fact("r", 1), fact("r", 2))
    hours.over(0)
    hours.seal()
    mutate(hours.client, "usage_facts", "DELETE WHERE attempt = 2")
    hours.usage(fact("r", 3, posted=1, used=0))
    hours.over(1)
    with pytest.raises(SealStopped, match=r"of usage 'r' .* has no row in the facts any more"):
        hours.seal()


class _ReadTooEarly(MemoryTopic):
    """The first read came before what another sealer appended, and copied, since."""

    def __init__(self, shared: MemoryTopic) -> None:
        super().__init__(shared.partitions)
        self.records = shared.records
        self._reads = 0

    def read(self, offset: int) -> list[SealsRecord]:
        self._reads += 1
        return [] if self._reads == 1 else super().read(offset)


def test_a_seal_that_another_copied_after_the_topic_was_read_is_no_lost_seal(hours: Hours) -> None:
    hours.usage(fact("a"))
    hours.over(0)
    hours.seal()
    hours.over(1)
    done = hours.sealer(topic=_ReadTooEarly(hours.topic)).run()
    assert [seal.number for seal in done.hours] == [1]


def test_a_request_names_the_seal_of_each_line(hours: Hours) -> None:
    hours.usage(fact("a", rate_card_id="card-1", rate_card_hash="aa"))
    unfolded = (
        "SELECT arrayMap(x -> (x.seal_id, x.posting_period, x.rate_card_hash), charges) AS c FROM request_history"
    )
    assert hours.rows(unfolded) == [{"c": [("", "", "aa")]}]
    hours.over(0)
    (seal,) = hours.seal().hours
    assert hours.rows(unfolded) == [{"c": [(seal.seal_id.hex(), "2026-03", "aa")]}]
