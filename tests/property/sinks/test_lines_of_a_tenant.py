"""Lines of one tenant and month are those of all tenants with that tenant and month, whatever rows and corrections say.

A request may have rows of two tenants and two months, in hours that are sealed and in hours that are not, and a
correction may move it to another tenant: who bears it is only known when all of it was read.
"""

from __future__ import annotations

from typing import Any, Final

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gatemeter.sinks.clickhouse import connect
from gatemeter.sinks.terms.months import HOUR_US, Month, month_of
from support.clickhouse import ClickHouse
from support.depth import depth
from support.facts import decision, fact
from support.sealing import Hours, MemoryTopic, replacement
from support.statements import APRIL_1

TABLES: Final = (
    *("usage_facts", "policy_facts", "ingest_batches", "corrections", "commits"),
    *("ledger", "seal_leaves", "seals", "closed_periods", "exceptions", "operator_log"),
)
COLUMNS: Final = (
    "tenant_id, usage_hour, kind, request_id, decision_id, attempt, response_hash, attempt_role, charge, retry_cost,"
    " posted_hour, seal_id"
)
MARCH, APRIL = month_of("2026-03"), month_of("2026-04")
ASKED: Final = (("acme", MARCH), ("beta", APRIL), *depth((), (("acme", APRIL), ("beta", MARCH))))
TENANTS = st.sampled_from(["acme", "beta"])
POSTED = st.integers(0, 2)  # hours after the end of March
USED = st.integers(-1, 0)  # the last hour of March, or the first one of April
USAGE = st.lists(
    st.tuples(
        *(st.sampled_from("ab"), st.integers(1, 2), st.integers(0, 1), POSTED, USED, TENANTS),
        *(st.sampled_from(["ok", "error"]), st.integers(0, 100)),
    ),
    min_size=1,
    max_size=8,
)
DECISIONS = st.lists(st.tuples(st.sampled_from("xy"), POSTED, USED, TENANTS), max_size=3)
MOVED = st.lists(st.tuples(st.integers(0, 7), st.booleans(), POSTED, TENANTS), max_size=2)
SEALED = st.integers(0, 3)  # hours


def fill(hours: Hours, usage: Any, decisions: Any, moved: Any) -> None:
    """`moved`: the row of usage, whether it is the first decision instead, when it was committed, and to whom."""
    keys = []
    for number, (request, attempt, revision, posted, used, tenant, status, charge) in enumerate(usage):
        place = {"version": (1 << 63) + (revision << 56) - number, "response_hash": f"{request}-{attempt}-{number}"}
        keys.append((request, attempt, place["response_hash"]))
        row = fact(request, attempt, tenant_id=tenant, status=status, charge=charge, **place)
        hours.usage(row | {"posted": APRIL_1 + posted, "used": APRIL_1 + used})
    for number, (name, posted, used, tenant) in enumerate(decisions):
        place = {"version": (1 << 63) - number, "content_hash": f"{name}-{number}"}
        row = decision(name, "a", tenant_id=tenant, **place)
        hours.decisions(row | {"posted": APRIL_1 + posted, "used": APRIL_1 + used})
    for number, (which, is_decision, posted, tenant) in enumerate(moved):
        target = {"tenant_id": tenant, "cause": "reorganisation"}
        request, attempt, response_hash = keys[which % len(keys)]
        if is_decision and decisions:
            request, attempt, response_hash = decisions[0][0], 0, f"{decisions[0][0]}-0"
            target["target"] = "decision"
        row = replacement(request, attempt, response_hash=response_hash, **target)
        hours.correct(APRIL_1 + posted, row, run=f"run-{number}")


def lines_of(hours: Hours, tenant: str, month: Month) -> list[Any]:
    asked = {"tenant": tenant, "first": month.start_us, "last": month.end_us - HOUR_US}
    where = "tenant = {tenant:String}, first_hour = fromUnixTimestamp64Micro({first:Int64}, 'UTC'),"
    where += " last_hour = fromUnixTimestamp64Micro({last:Int64}, 'UTC')"
    query = f"SELECT {COLUMNS} FROM charge_lines_of({where}) ORDER BY ALL"
    return list(hours.client.query(query, asked).named_results())


def test_lines_of_a_tenant_and_month_are_those_among_all_lines(clickhouse: ClickHouse) -> None:
    database = clickhouse.migrated()
    client = connect(database)
    hours = Hours(database, client)

    @settings(max_examples=depth(1, 60), deadline=None, suppress_health_check=list(HealthCheck))
    @given(USAGE, DECISIONS, MOVED, SEALED)
    @example(  # nothing is sealed, and the better row says another tenant
        [("a", 1, 0, 0, -1, "acme", "ok", 5), ("a", 1, 1, 1, 0, "beta", "ok", 6)], [("x", 0, 0, "acme")], [], 0
    )
    @example(  # sealed as beta's, corrected to be acme's; the retry comes in an hour that is not sealed
        [
            ("a", 1, 0, 0, -1, "beta", "error", 5),
            ("a", 2, 0, 2, -1, "beta", "ok", 7),
            ("b", 1, 0, 0, -1, "beta", "ok", 9),
        ],
        [("x", 0, -1, "beta"), ("y", 2, -1, "beta")],
        [(0, False, 1, "acme"), (0, True, 1, "acme")],
        2,
    )
    @example(  # all is sealed
        [("a", 1, 0, 0, -1, "acme", "ok", 5), ("b", 1, 0, 0, 0, "beta", "ok", 6)], [], [(1, False, 1, "acme")], 3
    )
    def same(usage: Any, decisions: Any, moved: Any, sealed: int) -> None:
        for table in TABLES:
            client.command(f"TRUNCATE TABLE {table}")
        hours.topic = MemoryTopic()
        fill(hours, usage, decisions, moved)
        hours.over(APRIL_1 + 2)
        if sealed:
            hours.seal(APRIL_1 + sealed - 1)
        every = list(client.query(f"SELECT {COLUMNS} FROM charge_lines ORDER BY ALL").named_results())
        for tenant, month in ASKED:
            chosen = [line for line in every if line["tenant_id"] == tenant and _is_in(line, month)]
            assert lines_of(hours, tenant, month) == chosen

    try:
        same()
    finally:
        client.close()
        clickhouse.drop(database)


def _is_in(line: Any, month: Month) -> bool:
    return month.start_us <= line["usage_hour"].timestamp() * 1_000_000 < month.end_us
