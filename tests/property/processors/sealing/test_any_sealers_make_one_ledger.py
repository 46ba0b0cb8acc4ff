"""Any number of sealers in any order, killed between any two steps, make the ledger that one sealer makes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatemeter.sinks.clickhouse import connect
from support.clickhouse import ClickHouse
from support.depth import depth
from support.facts import decision, fact
from support.sealing import Crash, Hours, MemoryTopic, Mortal, free, replacement

HOURS = 2
INPUT = ("usage_facts", "policy_facts", "ingest_batches", "corrections", "commits")
OUTPUT = ("ledger", "seal_leaves", "seals", "closed_periods", "exceptions", "operator_log")
LINES = "SELECT * EXCEPT (posted_hour, posting_period, seal_id) FROM charge_lines ORDER BY ALL"


@dataclass(frozen=True)
class Try:
    """A sealer: how many steps it lives, whether the last one still happens, whether another is quicker to append."""

    steps: int
    applied: bool
    raced: bool


USAGE = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(1, 3),
        st.integers(0, 2),  # usage revision
        st.integers(0, HOURS - 1),  # posted
        st.sampled_from(["ok", "error"]),
        st.sampled_from(["final_only", "all_provider_charged"]),
        st.integers(0, 100),
    ),
    min_size=1,
    max_size=8,
)
DECISIONS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, HOURS - 1), st.integers(0, 9)), max_size=3)
CORRECTED = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.integers(0, HOURS - 1)), max_size=2)
TRIES = st.lists(st.builds(Try, st.integers(0, 14), st.booleans(), st.booleans()), max_size=3)


class Race(Mortal):
    """A topic in which another sealer appends just before."""

    def __init__(self, hours: Hours, attempt: Try) -> None:
        super().__init__(hours.sink, hours.topic, attempt.steps, applied=attempt.applied)
        self._hours, self._raced = hours, attempt.raced

    def append(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        if self._raced:
            self._raced = False
            self._hours.sealer().run()
        super().append(key, value, headers)


def fill(hours: Hours, usage: Any, decisions: Any, corrected: Any) -> None:
    for number, (request, attempt, revision, posted, status, rule, charge) in enumerate(usage):
        version = (1 << 63) + (revision << 56) + ((1 << 40) - 1 - number)
        changes = {"usage_revision": revision, "version": version, "status": status, "retry_rule": rule}
        row = fact(
            request, attempt, charge=charge, response_hash=f"{request}-{attempt}-{number}", posted=posted, used=0
        )
        hours.usage(row | changes)
    for number, (request, posted, cost) in enumerate(decisions):
        place = {"version": (1 << 63) - number, "content_hash": f"{request}-{number}"}  # no two records share theirs
        hours.decisions(decision(f"d{cost}", request, posted=posted, used=0, charge=cost, **place))
    for number, (request, attempt, posted) in enumerate(corrected):
        target = next((f"{u[0]}-{u[1]}-{n}" for n, u in enumerate(usage) if u[:2] == (request, attempt)), "none")
        rows = (replacement(request, attempt, response_hash=target), free(number))
        hours.correct(posted, *rows, run=f"run-{number}")


def outcome(hours: Hours) -> dict[str, Any]:
    client = hours.client
    tables = {
        "chain": [(seal.number, seal.seal_id.hex()) for seal in hours.topic.chain().seals],
        "ledger": client.query("SELECT * FROM ledger_entries ORDER BY posted_hour, entry").result_rows,
        "leaves": client.query(
            "SELECT seal_id, leaf_index, hex(leaf) FROM seal_leaves FINAL"
            " WHERE seal_id IN (SELECT seal_id FROM seals) ORDER BY seal_id, leaf_index"
        ).result_rows,
        "exceptions": client.query("SELECT * FROM exceptions FINAL ORDER BY offset, event_index").result_rows,
        "seals": client.query("SELECT number, seal_id FROM seals FINAL ORDER BY number").result_rows,
        "lines": client.query(LINES).result_rows,
    }
    return {name: [tuple(row) for row in rows] for name, rows in tables.items()}


def forget(hours: Hours, tables: Sequence[str]) -> None:
    for table in tables:
        hours.client.command(f"TRUNCATE TABLE {table}")
    hours.topic = MemoryTopic()


def test_any_sealers_with_crashes_make_one_and_the_same_ledger(clickhouse: ClickHouse) -> None:
    database = clickhouse.migrated()
    client = connect(database)
    hours = Hours(database, client)
    hours.rows_a_range = 2

    @settings(max_examples=depth(2, 20), deadline=None, suppress_health_check=list(HealthCheck))
    @given(USAGE, DECISIONS, CORRECTED, TRIES)
    def same(usage: Any, decisions: Any, corrected: Any, tries: list[Try]) -> None:
        forget(hours, (*INPUT, *OUTPUT))
        fill(hours, usage, decisions, corrected)
        hours.over(HOURS)
        live = client.query(LINES).result_rows
        hours.seal()
        expected = outcome(hours)
        assert [seal.posted_hour_us for seal in hours.topic.chain().seals]
        if not corrected:  # what is committed counts once it is sealed
            assert expected["lines"] == [tuple(row) for row in live]
        forget(hours, OUTPUT)
        for attempt in tries:
            mortal = Race(hours, attempt)
            with suppress(Crash):
                hours.sealer(sink=mortal, topic=mortal).run()
        hours.seal()
        assert outcome(hours) == expected

    try:
        same()
    finally:
        client.close()
        clickhouse.drop(database)
