"""A staged run becomes real: one signed COMMIT in partition 0 of the events topic.

Only the first COMMIT of a run counts, so one whose reply was lost is appended again without harm. It goes to the
oldest open generation of the topic, whose partition 0 gives it its hour.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.auditing.logs import Kafka
from gatemeter.processors.corrections.pending import COMMIT_PARTITION, pending_commits
from gatemeter.processors.corrections.rows import CorrectionError, Digest
from gatemeter.processors.corrections.runs import Commit, commit_of, commits_after, staged_rows
from gatemeter.processors.corrections.staging import StagedRun, known_to
from gatemeter.processors.metadata.control import partitions_of
from gatemeter.processors.metadata.gateways import Connection
from gatemeter.processors.metadata.publishing import OperatorRecord, append_all
from gatemeter.schemas.codec import encode
from gatemeter.sinks.failures import FAILURES, sink_error

# Rows that both runs take the place of, and evidence that both charge.
_SHARED: Final = """
SELECT count() FROM
(
    SELECT DISTINCT target, gateway_id, request_id, attempt, response_hash, evidence_place FROM corrections
    WHERE run_id = {run:String} AND (kind = 'replace' OR evidence_place != '')
) AS mine
INNER JOIN
(
    SELECT DISTINCT target, gateway_id, request_id, attempt, response_hash, evidence_place FROM corrections
    WHERE run_id = {other:String} AND (kind = 'replace' OR evidence_place != '')
) AS theirs USING (target, gateway_id, request_id, attempt, response_hash, evidence_place)
"""


@dataclass(frozen=True, slots=True)
class Committed:
    """Where the COMMIT of a run is. `before`: the one that a worker had folded already; then nothing was appended.

    `waits`: it was appended before, and no worker has folded it yet; then nothing was appended either.
    """

    run_id: str
    topic: str
    partition: int
    offset: int
    before: Commit | None = None
    waits: bool = False


def commit_value(topic: str, run: StagedRun, cause: str, reason: str, issued_at_us: int) -> bytes:
    """The value of a COMMIT record; it names its partition, so that a copy elsewhere is found out."""
    record = {
        "topic": topic,
        "partition": COMMIT_PARTITION,
        "run_id": run.run_id,
        "rows_digest": run.digest,
        "entries": run.entries,
        "cause": cause,
        "reason": reason,
        "issued_at": issued_at_us,
    }
    return encode("Commit", record)


def commit(connection: Connection, client: Client, run_id: str, digest: bytes) -> Committed:
    """Commits a staged run, after reading its rows back. Committing a run again does no harm.

    `digest`: what its staging said. A staging that was cut short never said one.

    1. the rows are read back: what is not there as it was staged is not committed
    2. COMMIT is appended and its delivery report awaited: a crash here leaves a run that is committed or not; commit it
       again to be sure

    Raises `CorrectionError`, `DeliveryFailed`, `MetadataUnreachable`, `SinkUnavailable`, `SinkRefused`.
    """
    run, cause, reason = _read_back(client, run_id, digest)
    before = commit_of(client, run_id)
    if before is not None:
        return Committed(run_id, before.topic, before.partition, before.offset, before)
    topic = connection.events_topic
    partitions_of(connection.bootstrap, topic, client=connection.client)
    pending = pending_commits(Kafka(connection.bootstrap, connection.client), client, topic, connection.trusted)
    if run_id in pending:
        return Committed(run_id, topic, COMMIT_PARTITION, pending[run_id].offset, waits=True)
    _check_not_overtaken(client, run_id)
    for other in pending.values():
        where = f"which waits to be folded at offset {other.offset}"
        _check_disjoint(client, run_id, other.run_id, where)
    value = commit_value(topic, run, cause, reason, time.time_ns() // 1_000)
    record = OperatorRecord(f"COMMIT of run {run_id}", topic, COMMIT_PARTITION, None, value)
    offsets = append_all(connection.bootstrap, [record], connection.operator_key, client=connection.client)
    return Committed(run_id, topic, COMMIT_PARTITION, offsets[0])


def _read_back(client: Client, run_id: str, expected: bytes) -> tuple[StagedRun, str, str]:
    """The run as it is in ClickHouse, its cause and reason; an error where it is not as it was staged."""
    digest, cause, reason = Digest(), "", ""
    for row in staged_rows(client, run_id):
        digest.add(row)
        cause, reason = row.cause, row.reason
    if digest.entries == 0:
        raise CorrectionError(f"run {run_id}: there are no staged rows")
    if digest.value != expected:
        raise CorrectionError(
            f"run {run_id}: digest must be {expected.hex()}, its {digest.entries} rows have {digest.value.hex()}: "
            "the staging was cut short or rows were changed; stage it anew"
        )
    return StagedRun(run_id, digest.entries, digest.value), cause, reason


def _check_not_overtaken(client: Client, run_id: str) -> None:
    """A run is computed from what is in force then: what was committed since would be undone in silence."""
    for other in commits_after(client, known_to(run_id)):
        _check_disjoint(client, run_id, other.run_id, "committed since it was computed")


def _check_disjoint(client: Client, run_id: str, other_id: str, which: str) -> None:
    try:
        shared = client.query(_SHARED, {"run": run_id, "other": other_id}).result_rows[0][0]
    except FAILURES as error:
        raise sink_error(f"compare run {run_id} with run {other_id}", error) from error
    if shared:
        raise CorrectionError(
            f"run {run_id}: run {other_id}, {which}, replaces {shared} of the same rows; stage it anew"
        )
