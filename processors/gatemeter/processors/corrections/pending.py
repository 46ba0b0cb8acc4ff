"""COMMITs that are in the log and that no worker has folded yet: ClickHouse does not know them, and they will count.

Partition 0 of the events topic is read from its newest checkpoint on. A COMMIT that an operator did not sign, or that
was signed for another place, will be refused by the fold and is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.auditing.logs import Kafka, LogReader
from gatemeter.processors.fold.types import LogRecord
from gatemeter.processors.metadata.reading import MetadataUnreachable
from gatemeter.schemas import codec
from gatemeter.schemas.signing import signature_is_valid
from gatemeter.sinks.reports.audit import CannotCheck
from gatemeter.sinks.reports.quarantine import reached

COMMIT_PARTITION: Final = 0


@dataclass(frozen=True, slots=True)
class PendingCommit:
    """The first COMMIT of a run that waits to be folded."""

    run_id: str
    entries: int
    cause: str
    reason: str
    offset: int


def pending_commits(kafka: Kafka, client: Client, topic: str, operators: Mapping[str, str]) -> dict[str, PendingCommit]:
    """By run, in the order of the log. Raises `MetadataUnreachable`, `SinkUnavailable`, `SinkRefused`."""
    written = reached(client).get((topic, COMMIT_PARTITION), 0)
    found: dict[str, PendingCommit] = {}
    try:
        with LogReader(kafka) as log:
            earliest, end = log.bounds(topic, COMMIT_PARTITION)
            for records in log.read(topic, COMMIT_PARTITION, max(earliest, written), end):
                for record in records:
                    commit = _commit(record, topic, operators)
                    if commit is not None:
                        found.setdefault(commit.run_id, commit)
    except CannotCheck as error:
        raise MetadataUnreachable(str(error)) from error
    return found


def _commit(record: LogRecord, topic: str, operators: Mapping[str, str]) -> PendingCommit | None:
    if not record.value.startswith(codec.CURRENT["Commit"].prefix):
        return None
    if not signature_is_valid(operators, dict(record.headers), record.value):
        return None
    try:
        datum = codec.decode(record.value).datum
    except codec.CodecError:
        return None
    if (datum["topic"], datum["partition"]) != (topic, COMMIT_PARTITION):
        return None
    return PendingCommit(datum["run_id"], datum["entries"], datum["cause"], datum["reason"], record.offset)
