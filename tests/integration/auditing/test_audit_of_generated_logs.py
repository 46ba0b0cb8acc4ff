"""Whatever a log may hold, the audit of what workers wrote of it is clean; what is changed afterwards is found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from gatemeter.processors.admission import Trust
from gatemeter.processors.auditing.logs import Kafka
from gatemeter.processors.auditing.refold import Refold
from gatemeter.processors.fold.types import LogRecord
from gatemeter.processors.metadata.views import View
from gatemeter.processors.partition import Output
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from gatemeter.sinks.reports.audit import Finding, Result
from gatemeter.sinks.reports.conservation import conservation
from gatemeter.sinks.reports.windows import check_windows
from support.depth import depth
from support.generated_logs import Step, build_log, programs
from support.logs import OPERATOR, SECRET, TOPIC, FakeMetadata, new_fold, run
from support.mutations import mutate

TABLES = (
    *("usage_facts", "policy_facts", "usage_windows", "quarantine", "exceptions", "gateway_epochs", "attestations"),
    *("evidence", "quarantine_discards", "commits", "operator_log", "ingest_batches"),
)
TRUST = Trust(dict.fromkeys(("a-1", "b-1", "tick-1", "c-1"), SECRET), {OPERATOR.kid: OPERATOR.public_hex})


class Memory:
    """A log in memory of which the records below `earliest` are no longer retained."""

    def __init__(self, records: Sequence[LogRecord], earliest: int = 0) -> None:
        self._records, self._earliest = records, earliest

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return self._earliest, len(self._records)

    def read(self, topic: str, partition: int, first: int, after: int) -> Iterator[list[LogRecord]]:
        assert first >= self._earliest
        for place in range(first, after, 3):
            yield list(self._records[place : min(place + 3, after)])

    def record_at(self, topic: str, partition: int, offset: int) -> LogRecord:
        assert offset >= self._earliest
        return self._records[offset]


class Written:
    """A database with what a worker wrote of a log, and its re-fold."""

    def __init__(self, settings: ClickHouseSettings, client: Client) -> None:
        self.client = client
        self._sink = ClickHouseSink(settings)

    def write(self, outputs: Sequence[Output]) -> None:
        for table in TABLES:
            self.client.command(f"TRUNCATE TABLE {table}")
        for output in outputs:
            for table, rows in output.tables.items():
                self._sink.write(table, rows)
            if output.checkpoint is not None:
                row = {**output.checkpoint, "written_at": 0}
                self._sink.write("ingest_batches", rows_to_arrow("ingest_batches", [row]))

    def refold(
        self, records: Sequence[LogRecord], views: Mapping[int, View], *, block_rows: int, earliest: int = 0
    ) -> list[Finding]:
        again = Refold(self.client, Kafka("nowhere"), TOPIC, FakeMetadata.topic, TRUST, block_rows)
        logs, metadata = Memory(records, earliest), FakeMetadata(views)
        return list(again.partition(metadata, logs, 0, 1))  # type: ignore[arg-type]


@pytest.fixture
def written(clickhouse_database: ClickHouseSettings, clickhouse_client: Client) -> Written:
    return Written(clickhouse_database, clickhouse_client)


def wrong(findings: Sequence[Finding]) -> list[str]:
    return [finding.what for finding in findings if finding.result is Result.WRONG]


FEW = settings(
    max_examples=depth(4, 40),
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # an example takes a second: no shrinking
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
CUTS = st.lists(st.integers(1, 60), min_size=2, max_size=8, unique=True)


@FEW
@given(programs(min_size=15), CUTS, st.sampled_from([1, 7, 1_000]))
def test_what_workers_wrote_is_clean_from_any_retained_offset_on(
    written: Written, program: list[Step], cuts: list[int], block_rows: int
) -> None:
    log, views = build_log(program)
    outputs = run(new_fold(views, columnar=True), log.records, [cut for cut in cuts if cut < len(log.records)])
    written.write(outputs)
    assert wrong(written.refold(log.records, views, block_rows=block_rows)) == []
    for output in outputs[:-1][-2:]:
        assert output.checkpoint is not None
        earliest = output.checkpoint["replay_from"]
        assert wrong(written.refold(log.records, views, block_rows=block_rows, earliest=earliest)) == []
    assert conservation(written.client).first_problem == ""
    assert wrong(list(check_windows(written.client))) == []


@FEW
@given(programs(min_size=15), CUTS, st.data())
def test_a_row_that_is_deleted_or_doubled_under_another_key_is_found(
    written: Written, program: list[Step], cuts: list[int], data: st.DataObject
) -> None:
    log, views = build_log(program)
    outputs = run(new_fold(views, columnar=True), log.records, [cut for cut in cuts if cut < len(log.records)])
    written.write(outputs)
    rows = list(
        written.client.query(
            "SELECT request_id, attempt, posted_hour, response_hash FROM usage_facts FINAL"
        ).result_rows
    )
    assume(rows)
    request, attempt, hour, content = data.draw(st.sampled_from(sorted(rows)))
    where = (
        f"request_id = {{request:String}} AND attempt = {attempt} AND response_hash = '{content}'"
        f" AND posted_hour = '{hour:%Y-%m-%d %H:%M:%S}'"
    )
    asked: dict[str, Any] = {"request": request}
    if data.draw(st.booleans()):
        rows_of = f"(SELECT * FROM usage_facts WHERE {where})"
        query = f"INSERT INTO usage_facts SELECT * REPLACE (attempt + 7 AS attempt) FROM {rows_of}"
        written.client.command(query, asked)
        expected = "is in the table and not in the log"
    else:
        mutate(written.client, "usage_facts", f"DELETE WHERE {where}", asked)
        expected = "is in the log and not in the table"
    found = wrong(written.refold(log.records, views, block_rows=7))
    assert len(found) == 1
    assert found[0].startswith("usage_facts: fact ")
    assert expected in found[0]
