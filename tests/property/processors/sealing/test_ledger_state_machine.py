"""A state machine from the log to the ledger: whatever fold, operators and two sealers do, the ledger is the oracle's.

The log grows by everything that logs may hold; an owner folds it, dies between rows and checkpoint, and begins again;
operators stage corrections and commit them, twice where a reply was lost; two sealers, each of which may be behind and
may die at any step, seal what is over. The real ClickHouse engine computes; the oracle is `support.ledger_oracle`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from gatemeter.processors.corrections.rows import AMOUNTS, CorrectionRow
from gatemeter.processors.corrections.staging import StagedRun, stage
from gatemeter.processors.partition import Output, PartitionFold
from gatemeter.processors.sealing.sealer import Sealer
from gatemeter.schemas.seals import HOUR_US
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink, connect
from support.clickhouse import ClickHouse
from support.depth import depth
from support.generated_logs import Builder, Control, Jump, Operate, Step, examples, steps
from support.ledger_oracle import SUMMED, Key, charge_lines
from support.logs import START_US, Rows, collapse, new_fold
from support.sealing import SEALER, SEALS_TOPIC, TRUSTED, Crash, MemoryTopic, Mortal, free, replacement

NOSHRINK = (Phase.generate,)
FILLED = (
    *("usage_facts", "policy_facts", "usage_windows", "exceptions", "quarantine", "gateway_epochs", "ingest_batches"),
    *("quarantine_discards", "commits", "operator_log", "corrections", "ledger", "seal_leaves", "seals"),
)
LATEST_US = 250_000_000_000_000_000
"""After every hour of these logs."""


def _suits(step: Step) -> bool:
    """Each hour that passes is sealed, so hours pass by a rule of their own; so do commits."""
    if isinstance(step, Jump):
        return step.by_us <= HOUR_US // 4
    return not (isinstance(step, Operate) and step.how == "commit")


class BehindTopic(MemoryTopic):
    """A view of a shared topic whose next read may come before what others appended."""

    def __init__(self, shared: MemoryTopic) -> None:
        super().__init__()
        self.records = shared.records
        self.behind = False

    def read(self, offset: int) -> Any:
        behind, self.behind = self.behind, False
        return [] if behind else super().read(offset)


class LedgerMachine(RuleBasedStateMachine):
    """`written` is what ClickHouse holds of the fold, as the oracle takes it."""

    def __init__(self, database: ClickHouseSettings) -> None:
        super().__init__()
        self.client = connect(database)
        for table in FILLED:
            self.client.command(f"TRUNCATE TABLE {table}")
        self.sink = ClickHouseSink(database)
        self.builder = Builder()
        self.written: list[Output] = []
        self.checkpoints: list[dict[str, Any]] = []
        self.owner = self._fold(None)
        self.topic = MemoryTopic()
        self.topics = [BehindTopic(self.topic), BehindTopic(self.topic)]
        self.sealers: list[Sealer | None] = [None, None]
        self.runs: dict[str, list[CorrectionRow]] = {}
        self.committed: list[tuple[str, StagedRun]] = []

    def _fold(self, checkpoint: Mapping[str, Any] | None) -> PartitionFold:
        return new_fold(self.builder.views, columnar=False, checkpoint=checkpoint)

    # -- the log and its owner

    @rule(more=st.lists(steps().filter(_suits), min_size=1, max_size=6))
    def the_log_grows(self, more: list[Step]) -> None:
        for step in more:
            self.builder.step(step)

    @rule(hours=st.integers(1, 2))
    def hours_pass(self, hours: int) -> None:
        """And the standard grace is in force again, so that they can be sealed."""
        self.builder.step(Jump(hours * HOUR_US))
        self.builder.step(Control(1))

    @rule(dies=st.sampled_from(("", "", "", "before rows", "before checkpoint")))
    def the_owner_folds(self, dies: str) -> None:
        """All there is, and flushes it; or dies, and the next owner goes on from the newest checkpoint."""
        records = self.builder.log.records[self.owner.next_offset :]
        if not records:
            return
        output = self.owner.fold(records)
        if dies != "before rows":
            for table, rows in output.tables.items():
                self.sink.write(table, rows)
            self.written.append(output)
            if not dies and output.checkpoint:
                self.checkpoints.append(output.checkpoint)
                self._write_checkpoint(output.checkpoint)
        if dies:
            self.owner = self._fold(self.checkpoints[-1] if self.checkpoints else None)

    def _write_checkpoint(self, row: dict[str, Any]) -> None:
        self.sink.write("ingest_batches", rows_to_arrow("ingest_batches", [{**row, "written_at": START_US}]))

    # -- operators

    @precondition(lambda self: self._facts("usage_facts"))
    @rule(which=st.integers(0, 50), amount=st.integers(-5, 900), again=st.booleans(), both=st.booleans())
    def a_correction_is_staged(self, which: int, amount: int, again: bool, both: bool) -> None:
        """Of any row, the truth or not; with a free entry beside it."""
        facts = list(self._facts("usage_facts").values())
        fact = facts[which % len(facts)]
        run = f"run-{len(self.runs)}"
        rows = [_replaces(fact, abs(amount))]
        if both:
            rows.append(free(amount, usage_hour=fact["usage_hour"]))
        self.runs[run] = [replace(row, run_id=run, entry=number) for number, row in enumerate(rows)]
        staged = stage(self.sink, run, self.runs[run])
        if again:
            stage(self.sink, run, self.runs[run])
        self.committed.append((run, staged))

    @precondition(lambda self: self.committed)
    @rule(which=st.integers(0, 9))
    def a_run_is_committed(self, which: int) -> None:
        """Perhaps not for the first time."""
        run, staged = self.committed[which % len(self.committed)]
        said = {"run_id": run, "rows_digest": staged.digest, "entries": staged.entries, "cause": "reprice"}
        self.builder.log.operate("Commit", self.builder.now_us, **said)

    # -- sealers

    @rule(which=st.integers(0, 1), restarted=st.booleans(), behind=st.booleans())
    def a_sealer_seals(self, which: int, restarted: bool, behind: bool) -> None:
        """What is over; `behind`: it begins without seeing what the other one appended since it last looked."""
        topic = self.topics[which]
        sealer = self.sealers[which]
        if sealer is None or restarted:
            sealer = self.sealers[which] = self._sealer(self.sink, topic)
        topic.behind = behind
        sealer.run()

    @rule(which=st.integers(0, 1), after=st.integers(0, 12), applied=st.booleans())
    def a_sealer_dies(self, which: int, after: int, applied: bool) -> None:
        """At any of its steps, the last of which may have happened."""
        mortal = Mortal(self.sink, self.topic, after, applied=applied)
        try:
            self._sealer(mortal, mortal).run()
        except Crash:
            self.sealers[which] = None

    def _sealer(self, sink: Any, topic: Any) -> Sealer:
        return Sealer(self.client, sink, topic, SEALER, TRUSTED, seals_topic=SEALS_TOPIC, rows_a_range=3)

    # -- what must hold

    def _facts(self, table: str) -> Rows:
        return collapse(self.written)[table]

    def teardown(self) -> None:
        """The owner catches up, both sealers too; then ledger and views are what the oracle says."""
        try:
            self.the_owner_folds("")
            for which in (0, 1):
                self.a_sealer_seals(which, True, False)
            self._ledger_is_the_oracles()
            self._views_are_the_oracles()
        finally:
            self.client.close()
            self.sink.close()

    def _ledger_is_the_oracles(self) -> None:
        tip = self.topic.chain().tip
        if tip is None:
            assert self._sums("ledger_entries") == {}
            return
        assert self._sums("ledger_entries") == self._expected(tip.posted_hour_us, tip.posted_hour_us)
        ((copies, distinct),) = self.client.query(
            "SELECT count(), uniqExact(seal_id, entry) FROM ledger_entries"
        ).result_rows
        assert copies == distinct

    def _views_are_the_oracles(self) -> None:
        tip = self.topic.chain().tip
        assert self._sums("charge_lines") == self._expected(LATEST_US, tip.posted_hour_us if tip else -1)

    def _expected(self, through_us: int, corrected_us: int) -> dict[Key, tuple[int, ...]]:
        """Lines of rows posted up to `through_us`, with the corrections committed up to `corrected_us`."""
        corrected: dict[tuple[Any, ...], CorrectionRow] = {}
        entries = []
        for run in self._committed_up_to(corrected_us):
            for row in self.runs[run]:
                if row.kind == "free":
                    entries.append(_amounts(amounts_of(row)))
                else:
                    corrected[row.gateway_id, row.request_id, row.attempt, row.response_hash] = row
        usage = [_corrected(row, corrected) for row in self._facts("usage_facts").values()]
        lines = charge_lines(usage, self._facts("policy_facts").values(), through_us)
        sums = {key: _amounts(line) for key, line in lines.items()}
        if entries:
            sums["correction", "", "", 0] = tuple(sum(amounts) for amounts in zip(*entries, strict=True))
        return sums

    def _committed_up_to(self, hour_us: int) -> list[str]:
        """Runs in the order of their first COMMIT, where that posted up to the hour."""
        first: dict[str, Mapping[str, Any]] = {}
        for row in sorted(self._facts("commits").values(), key=lambda row: int(row["offset"])):
            first.setdefault(row["run_id"], row)
        return [run for run, row in first.items() if row["posted_hour"] <= hour_us]

    def _sums(self, view: str) -> dict[Key, tuple[int, ...]]:
        """Amounts of each line in pico, reversals included, unknown counted as nothing; free entries are one line."""
        columns = ", ".join(f"toInt64(sum(ifNull({name}, 0)) * 1000000000000) AS sum_{name}" for name in SUMMED)
        rows = self.client.query(
            f"SELECT kind, gateway_id, if(kind = 'decision', decision_id, request_id) AS id, attempt, {columns}"
            f" FROM {view} GROUP BY kind, gateway_id, id, attempt"
        ).result_rows
        return {(kind, gateway, request, attempt): tuple(sums) for kind, gateway, request, attempt, *sums in rows}


def amounts_of(row: CorrectionRow) -> dict[str, Any]:
    """The amounts of a correction by name."""
    return {name: getattr(row, name) for name in AMOUNTS}


def _amounts(line: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(line[name] or 0 for name in SUMMED)


def _replaces(fact: Mapping[str, Any], amount: int) -> CorrectionRow:
    """A correction of that row: it costs `amount`, nothing is marked up."""
    key = {name: fact[name] for name in ("gateway_id", "attempt", "response_hash", "usage_hour")}
    costs = dict.fromkeys(("list_cost", "provider_cost", "token_cost", "charge"), amount)
    return replacement(fact["request_id"], **(key | costs))


def _corrected(fact: Mapping[str, Any], corrected: Mapping[tuple[Any, ...], CorrectionRow]) -> dict[str, Any]:
    row = corrected.get((fact["gateway_id"], fact["request_id"], fact["attempt"], fact["response_hash"]))
    return dict(fact) if row is None else {**fact, **amounts_of(row)}


def test_the_ledger_is_the_oracles_whatever_fold_operators_and_sealers_do(clickhouse: ClickHouse) -> None:
    database = clickhouse.migrated()
    make: Callable[[], RuleBasedStateMachine] = lambda: LedgerMachine(database)  # noqa: E731 - what Hypothesis calls
    run_state_machine_as_test(make, settings=settings(examples(2), stateful_step_count=depth(60, 100)))
    clickhouse.drop(database)
