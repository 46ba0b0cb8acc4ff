"""Whatever the order of answers, stagings, repeated commits, crashes and seals, the ledger is that of an oracle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from clickhouse_connect.driver.client import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.processors.corrections import staging
from gatemeter.processors.corrections.adjust import Manual, free_entry, replacing_row
from gatemeter.processors.corrections.rows import CorrectionRow
from gatemeter.processors.corrections.staging import StagedRun, stage
from gatemeter.processors.corrections.truths import truth_of
from gatemeter.sinks.clickhouse import connect
from gatemeter.sinks.reports.money import pico_of
from support.clickhouse import ClickHouse
from support.depth import depth
from support.folded import HOUR_US, FoldedLog
from support.logs import PRICES, START_US, build, response, standard_view

TOKEN_CHARGE = PRICES["input_text_uncached"] * 115 // 100
REQUESTS = ("r0", "r1")

requests = st.sampled_from(REQUESTS)
actions = st.one_of(
    st.tuples(st.just("answer"), requests, st.integers(0, 2)),
    st.tuples(st.just("replace"), requests, st.integers(1, 9)),
    st.tuples(st.just("free"), st.just(""), st.integers(-9, 9)),
    st.tuples(st.just("cut short"), requests, st.integers(1, 9)),
    st.tuples(st.just("commit"), st.just(""), st.integers(0, 9)),
    st.tuples(st.just("hours pass"), st.just(""), st.just(1)),
    st.tuples(st.just("seal"), st.just(""), st.just(0)),
    st.tuples(st.just("worker dies"), st.just(""), st.just(0)),
)


class Died(Exception):
    """The command was killed here."""


@dataclass
class Oracle:
    """What counts: of a request its highest revision, or what the last committed correction of just that one says."""

    revision: dict[str, int] = field(default_factory=dict)
    staged: list[tuple[str, int, int]] = field(default_factory=list)
    committed: list[int] = field(default_factory=list)

    def charge(self, request: str) -> int:
        revision = self.revision[request]
        corrected = [
            amount
            for number in self.committed
            for name, of, amount in [self.staged[number]]
            if (name, of) == (request, revision)
        ]
        return corrected[-1] if corrected else 100 * (revision + 1) * TOKEN_CHARGE

    def free(self) -> int:
        return sum(self.staged[number][2] for number in self.committed if not self.staged[number][0])


class System:
    """The real thing: log, fold, ClickHouse, sealer; what an operator does comes from the commands' own functions."""

    def __init__(self, folded: FoldedLog, client: Client) -> None:
        self.folded, self.client, self.oracle = folded, client, Oracle()
        self.now_us, self.runs = 0, list[StagedRun]()

    def do(self, what: str, request: str, number: int) -> None:
        if what == "answer":
            seen = self.oracle.revision.get(request, -1)
            self.oracle.revision[request] = max(seen, number)
            tokens = (100 * (number + 1), 0)
            answer = response(request, 0, usage_revision=number, tokens=tokens)
            self.folded.gateway.send([answer], self.now_us)
        elif what in ("replace", "cut short"):
            self.replace(request, number, dies=what == "cut short")
        elif what == "free":
            run = f"run-{len(self.runs)}"
            entry = free_entry(run, START_US, Manual("why", {"markup": number}, {"tenant_id": "acme"}, "USD"))
            self.runs.append(stage(self.folded.sink, run, [entry]))
            self.oracle.staged.append(("", 0, number))
        elif what == "commit" and self.runs:
            chosen = number % len(self.runs)
            self.folded.commit(self.runs[chosen], self.now_us)
            if chosen not in self.oracle.committed:
                self.oracle.committed.append(chosen)
        elif what == "hours pass":
            self.now_us += number * HOUR_US
            self.folded.pass_time(self.now_us)
        elif what == "worker dies":
            self.folded.restart()
        elif what == "seal":
            self.folded.flush()
            self.folded.seal(self.client)

    def replace(self, request: str, amount: int, *, dies: bool) -> None:
        self.folded.flush()
        if request not in self.oracle.revision:
            return
        (truth,) = truth_of(self.client, "usage", request, 1)
        run = f"{'dead' if dies else 'run'}-{len(self.runs)}"
        row = replacing_row(run, truth, Manual("why", {"token_cost": amount, "markup": 0}, {}))

        def rows() -> Iterator[CorrectionRow]:
            yield row
            if dies:
                raise Died

        try:
            self.runs.append(stage(self.folded.sink, run, rows()))
            self.oracle.staged.append((request, self.oracle.revision[request], amount))
        except Died:
            pass

    def check(self) -> None:
        self.now_us += HOUR_US
        self.do("hours pass", "", 1)
        self.do("seal", "", 0)
        query = "SELECT if(kind = 'correction', '', request_id), sum(charge) FROM ledger_entries GROUP BY 1"
        ledger = {request: pico_of(charge) for request, charge in self.client.query(query).result_rows}
        expected = {request: self.oracle.charge(request) for request in self.oracle.revision}
        if any(not self.oracle.staged[number][0] for number in self.oracle.committed):
            expected[""] = self.oracle.free()
        assert ledger == expected
        lines = "SELECT if(kind = 'correction', '', request_id), sum(charge) FROM charge_lines GROUP BY 1"
        shown = {request: pico_of(charge) for request, charge in self.client.query(lines).result_rows}
        assert shown == expected


@settings(max_examples=depth(3, 30), deadline=None)
@given(st.lists(actions, min_size=4, max_size=16))
def test_the_ledger_is_that_of_the_oracle(clickhouse: ClickHouse, program: list[tuple[str, str, int]]) -> None:
    database = clickhouse.migrated()
    client = connect(database)
    rows_an_insert, staging.ROWS_AN_INSERT = staging.ROWS_AN_INSERT, 1
    try:
        system = System(FoldedLog(database, build(standard_view())), client)
        for action in program:
            system.do(*action)
        system.check()
    finally:
        staging.ROWS_AN_INSERT = rows_an_insert
        client.close()
        clickhouse.drop(database)
