"""Records of operators in the log: what a discard, an admit and a COMMIT change, and what the operator log says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from gatemeter.processors.fold.types import HOUR_US, MINUTE_US
from gatemeter.processors.metadata.views import View
from gatemeter.processors.partition import Output
from gatemeter.schemas.signing import OperatorKey
from support.logs import (
    START_US,
    Gateway,
    Log,
    assert_conserved,
    build,
    collapse,
    digest,
    new_fold,
    response,
    run,
    standard_view,
)

SECOND = 1_000_000
DAY_US = 24 * HOUR_US
VIEW = build(standard_view().gateway("gw-c", "c-1", valid_to_us=START_US + MINUTE_US))
VIEWS = {1: VIEW}
EVERYWHERE = [(columnar, cut) for columnar in (False, True) for cut in (False, True)]
pytestmark = pytest.mark.parametrize(("columnar", "crashing"), EVERYWHERE, ids=str)


class Story:
    """A log that is folded in one call, or record by record with a new fold at each checkpoint."""

    def __init__(self, columnar: bool, crashing: bool, views: Mapping[int, View] = VIEWS) -> None:
        self.columnar, self.crashing, self.views = columnar, crashing, views
        self.log = Log()
        self.log.control(VIEW)

    def fold(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The tables, and the last checkpoint."""
        outputs: list[Output] = []
        if self.crashing:
            for after in range(1, len(self.log.records) + 1):
                saved = outputs[-1].checkpoint if outputs else None
                fold = new_fold(self.views, columnar=self.columnar, checkpoint=saved)
                outputs.append(fold.fold(self.log.records[:after]))
        else:
            outputs = run(new_fold(self.views, columnar=self.columnar), self.log.records)
        checkpoint = outputs[-1].checkpoint
        assert checkpoint is not None
        assert_conserved(checkpoint)
        return collapse(outputs), checkpoint


@pytest.fixture
def story(columnar: bool, crashing: bool) -> Story:
    return Story(columnar, crashing)


def invalid(request_id: str, at_us: int) -> dict[str, Any]:
    return response(request_id, at_us, tokens=(-1, 0))


def requests_of(tables: Mapping[str, Any]) -> set[str]:
    return {row["request_id"] for row in tables["usage_facts"].values()}


def test_a_discarded_sequence_is_settled_and_its_replay_changes_nothing(story: Story) -> None:
    gateway = Gateway(story.log)
    holed = gateway.send([response("r1", 0), invalid("r2", 0), response("r3", 0)], SECOND)
    story.log.discard(holed, 1, gateway, (1, 2), 2 * SECOND)
    story.log.again(holed, 3 * SECOND)
    tables, last = story.fold()
    assert requests_of(tables) == {"r1", "r3"}
    (row,) = tables["quarantine_discards"].values()
    assert (row["offset"], row["event_index"], row["first_sequence"], row["next_sequence"]) == (1, 1, 1, 2)
    assert (row["reason"], row["kid"], row["discard_offset"]) == ("because", "ops", 2)
    assert len(tables["quarantine"]) == 1
    assert (last["events_duplicate"], last["events_quarantined"], last["records_operator"]) == (3, 1, 2)


def test_a_discard_of_what_is_settled_or_of_an_epoch_that_is_over_has_no_effect(story: Story) -> None:
    gateway, old = Gateway(story.log), Gateway(story.log, run=2, start_us=-31 * DAY_US)
    holed = gateway.send([response("r1", 0)], SECOND)
    story.log.discard(holed, -1, gateway, (0, 1), 2 * SECOND)
    story.log.discard(holed, -1, old, (0, 5), 2 * SECOND)
    gateway.send([response("r2", 3 * SECOND)], 3 * SECOND)
    old.send([response("r3", 3 * SECOND)], 3 * SECOND)
    tables, last = story.fold()
    assert requests_of(tables) == {"r1", "r2"}
    assert [row["reason"] for row in tables["quarantine"].values()] == ["epoch_expired"]
    assert len(tables["quarantine_discards"]) == 2
    assert last["events_duplicate"] == 0


def test_a_discard_of_an_epoch_that_was_never_heard_settles_its_sequences(story: Story) -> None:
    stranger = Gateway(story.log, "gw-x", "x-1")
    refused = stranger.send([response("r1", 0), response("r2", 0)], SECOND)
    story.log.discard(refused, -1, Gateway(story.log, run=7), (0, 1), 2 * SECOND)
    Gateway(story.log, run=7).send([response("a", 0), response("b", 0)], 3 * SECOND)
    tables, last = story.fold()
    assert requests_of(tables) == {"b"}
    assert last["events_duplicate"] == 1


def test_a_discard_of_a_record_that_nobody_can_read_touches_no_sequence(story: Story) -> None:
    refused = story.log.append(b"garbage", [], SECOND)
    what = {"gateway_id": "", "epoch": "", "first_sequence": 0, "next_sequence": 0}
    story.log.operate("Discard", 2 * SECOND, offset=refused.offset, event_index=-1, **what)
    tables, _ = story.fold()
    (row,) = tables["quarantine_discards"].values()
    assert (row["offset"], row["epoch"]) == (1, "")


def test_an_admit_lets_one_record_in_whose_key_has_ended(story: Story) -> None:
    gateway = Gateway(story.log, "gw-c", "c-1")
    late = gateway.send([response("r1", 0)], 2 * MINUTE_US)
    story.log.admit(late, "c-1", 3 * MINUTE_US)
    gateway.send([response("r2", 0)], 4 * MINUTE_US)
    story.log.again(late, 5 * MINUTE_US)
    story.log.again(late, 6 * MINUTE_US)
    tables, last = story.fold()
    assert requests_of(tables) == {"r1"}
    assert [(row["offset"], row["reason"]) for row in tables["quarantine"].values()] == [
        (1, "key_not_valid"),
        (3, "key_not_valid"),
        (5, "key_not_valid"),
    ]
    assert {row["record_digest"] for row in tables["quarantine"].values()} == {
        digest(late.value).hex(),
        digest(story.log.records[3].value).hex(),
    }
    assert (last["events_admitted"], last["records_quarantined"]) == (1, 3)


def test_an_admit_is_not_used_up_by_a_copy_with_a_wrong_mac_or_another_key(story: Story) -> None:
    gateway = Gateway(story.log, "gw-c", "c-1")
    late = gateway.send([response("r1", 0)], 2 * MINUTE_US)
    story.log.admit(late, "c-1", 3 * MINUTE_US)
    headers = dict(late.headers)
    story.log.append(late.value, [("gm-kid", b"c-1"), ("gm-mac", bytes(32))], 4 * MINUTE_US)
    story.log.append(late.value, [("gm-kid", b"a-1"), ("gm-mac", headers["gm-mac"])], 4 * MINUTE_US)
    story.log.again(late, 5 * MINUTE_US)
    tables, _ = story.fold()
    reasons = [row["reason"] for row in tables["quarantine"].values()]
    assert reasons == ["key_not_valid", "key_not_valid", "wrong_gateway"]
    assert requests_of(tables) == {"r1"}


def test_trace_24_a_commit_that_is_appended_twice_counts_once_by_its_first_copy(story: Story) -> None:
    story.log.commit("run-1", MINUTE_US)
    story.log.commit("run-1", 2 * HOUR_US)
    tables, last = story.fold()
    first, second = sorted(tables["commits"].values(), key=lambda row: -row["version"])
    assert (first["offset"], first["posted_hour"]) == (1, -HOUR_US + START_US)
    assert (second["offset"], second["posted_hour"]) == (2, HOUR_US + START_US)
    assert (first["version"], first["entries"], first["rows_digest"]) == ((1 << 40) - 2, 1, "00" * 32)
    assert last["records_operator"] == 3


def test_trace_26_a_raised_grace_does_not_reopen_the_hour_of_a_commit(columnar: bool, crashing: bool) -> None:
    calm = build(standard_view(grace_us=6 * HOUR_US), 2)
    story = Story(columnar, crashing, {1: VIEW, 2: calm})
    gateway = Gateway(story.log)
    gateway.send([response("r1", 0)], 4 * HOUR_US)
    story.log.control(calm, 4 * HOUR_US + SECOND)
    gateway.send([response("late", SECOND)], 4 * HOUR_US + 2 * SECOND)
    story.log.commit("run-1", 4 * HOUR_US + 3 * SECOND)
    tables, last = story.fold()
    assert {row["posted_hour"] - START_US for row in tables["usage_facts"].values()} == {3 * HOUR_US}
    assert [row["posted_hour"] - START_US for row in tables["commits"].values()] == [3 * HOUR_US]
    assert last["posting_floor"] == START_US + 3 * HOUR_US + 30 * MINUTE_US + SECOND


STRANGER = OperatorKey.generate("stranger")
ADMIT = {"record_digest": bytes(32), "kid": "a-1"}
DISCARD = {
    "offset": 0,
    "event_index": -1,
    "gateway_id": "gw-a",
    "epoch": f"{START_US}-1-{1:016x}",
    "first_sequence": 0,
    "next_sequence": 1,
}
COMMIT = {"run_id": "run-1", "rows_digest": bytes(32), "entries": 1, "cause": "manual"}


@pytest.mark.parametrize(
    ("name", "datum", "reason"),
    [
        ("Admit", {**ADMIT, "key": STRANGER}, "bad_signature"),
        ("Admit", {**ADMIT, "partition": 3}, "wrong_partition"),
        ("Admit", {**ADMIT, "topic": "elsewhere"}, "wrong_partition"),
        ("Admit", {**ADMIT, "reason": " "}, "invalid"),
        ("Discard", {**DISCARD, "offset": 1}, "invalid"),
        ("Discard", {**DISCARD, "event_index": -2}, "invalid"),
        ("Discard", {**DISCARD, "first_sequence": -1}, "invalid"),
        ("Discard", {**DISCARD, "next_sequence": 1_001}, "invalid"),
        ("Discard", {**DISCARD, "next_sequence": -1}, "invalid"),
        ("Discard", {**DISCARD, "epoch": "nonsense"}, "invalid"),
        ("Discard", {**DISCARD, "epoch": f"{START_US + DAY_US}-1-{1:016x}"}, "invalid"),
        ("Commit", {**COMMIT, "run_id": ""}, "invalid"),
        ("Commit", {**COMMIT, "cause": "whim"}, "invalid"),
        ("Commit", {**COMMIT, "entries": -1}, "invalid"),
    ],
)
def test_an_operators_record_that_is_not_right_is_quarantined(
    story: Story, name: str, datum: dict[str, Any], reason: str
) -> None:
    story.log.operate(name, SECOND, **datum)
    tables, last = story.fold()
    assert [row["reason"] for row in tables["quarantine"].values()] == [reason]
    assert (last["records_operator"], last["records_quarantined"]) == (1, 1)
    assert not tables["quarantine_discards"]
    assert not tables["commits"]


def test_every_act_of_an_operator_is_in_the_log_with_who_what_and_why(columnar: bool, crashing: bool) -> None:
    story = Story(columnar, crashing, {1: VIEW, 3: build(standard_view(), 3)})
    gateway = Gateway(story.log)
    holed = gateway.send([invalid("r1", 0)], SECOND)
    story.log.discard(holed, 0, gateway, (0, 1), 2 * SECOND)
    story.log.admit(holed, "a-1", 3 * SECOND)
    story.log.commit("run-1", 4 * SECOND)
    story.log.control(story.views[3], 5 * SECOND)
    tables, _ = story.fold()
    log = sorted(tables["operator_log"].values(), key=lambda row: (row["topic"], row["offset"]))
    assert [(row["topic"], row["offset"], row["act"], row["subject"]) for row in log] == [
        ("gatemeter.events", 0, "control", "1"),
        ("gatemeter.events", 2, "discard", "1:0"),
        ("gatemeter.events", 3, "admit", digest(holed.value).hex()),
        ("gatemeter.events", 4, "commit", "run-1"),
        ("gatemeter.events", 5, "control", "3"),
        ("gatemeter.metadata", 0, "Tenant", "acme"),
        ("gatemeter.metadata", 1, "Tenant", "acme"),
        ("gatemeter.metadata", 2, "Tenant", "acme"),
    ]
    assert {row["kid"] for row in log} == {"ops"}
    assert [row["reason"] for row in log[1:4]] == ["because"] * 3
    assert json.loads(log[3]["detail"])["rows_digest"] == "00" * 32
    assert json.loads(log[-1]["detail"])["tenant_id"] == "acme"
    assert log[-1]["at"] == START_US + 5 * SECOND


def test_only_partition_0_commits_and_speaks_for_the_metadata(columnar: bool, crashing: bool) -> None:
    log = Log(partition=1)
    log.control(VIEW)
    log.commit("run-1", SECOND)
    outputs = run(new_fold(VIEWS, columnar=columnar, partition=1), log.records, [1] if crashing else [])
    tables = collapse(outputs)
    assert [row["act"] for row in tables["operator_log"].values()] == ["control"]
    assert [row["reason"] for row in tables["quarantine"].values()] == ["invalid"]
