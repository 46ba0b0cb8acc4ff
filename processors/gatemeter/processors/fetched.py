"""What aiokafka fetched, as the fold's records, a Kafka batch at a time.

aiokafka makes an object of every record and hands it through three frames; at one event a record that cost more than
the fold. `Results` takes the place of the fetcher's dictionary of results and gives each result a `getall` that makes
`LogRecord`s straight from the batch, in one loop; what a position is, what is skipped and what is raised is the same.

Built on private parts of aiokafka 0.14.0, pinned by the transport's contract test.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.structs import TopicPartition

from gatemeter.processors.fold.types import LogRecord

LOG_APPEND_TIME: Final = 1

_new = tuple.__new__


class Fetched(list[LogRecord]):
    """Records of one partition in offset order. `log_append_time`: whether the broker set all their timestamps."""

    log_append_time = True


class Results(OrderedDict[TopicPartition, Any]):
    """`Fetcher._records`: each result gives `Fetched`; errors are left as they are."""

    def __setitem__(self, tp: TopicPartition, result: Any) -> None:
        if type(result) is FetchResult:
            result.getall = _Taking(result).take
        super().__setitem__(tp, result)


class _Taking:
    """`FetchResult.getall`, batch by batch; what is left of a batch is handed out by the next call."""

    def __init__(self, result: Any) -> None:
        self._result: Any = weakref.proxy(result)
        self._batches = _batches(result._partition_records)
        self._left: list[LogRecord] = []
        self._end = 0
        self._log_append_time = True

    def take(self, max_records: int | None = None) -> Fetched:
        """Up to `max_records`; the position moves past them. Raises `CorruptRecordException`."""
        result, taken = self._result, Fetched()
        if not result.check_assignment(result._topic_partition) or not result.has_more():
            return taken
        source = result._partition_records
        while self._left or self._next_batch():
            room = len(self._left) if max_records is None else max_records - len(taken)
            taken += self._left[:room]
            taken.log_append_time &= self._log_append_time
            self._left = self._left[room:]
            source.next_fetch_offset = taken[-1].offset + 1 if self._left else self._end
            if len(taken) == max_records:
                result._update_position()
                return taken
        result._update_position()
        result._partition_records = None
        return taken

    def _next_batch(self) -> bool:
        self._left, self._end, self._log_append_time = next(self._batches, ([], 0, True))
        return bool(self._left)


def _batches(source: Any) -> Iterator[tuple[list[LogRecord], int, bool]]:
    """`PartitionRecords._unpack_records`: of each batch with records these, its next offset, who set its timestamps."""
    while source._records.has_next():
        batch = source._records.next_batch()
        if source._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"Invalid CRC - {source._tp}")
        if not _is_void(source, batch):
            records = [
                _new(
                    LogRecord,
                    (record.offset, record.timestamp * 1000, record.key, record.value or b"", tuple(record.headers)),
                )
                for record in batch
            ]
            if records and records[0].offset < source.next_fetch_offset:  # a batch is sent whole
                records = [record for record in records if record.offset >= source.next_fetch_offset]
            if records:
                # formats before 2 do not say it of the batch; no broker writes them any more
                yield records, batch.next_offset, getattr(batch, "timestamp_type", None) == LOG_APPEND_TIME
        source.next_fetch_offset = batch.next_offset


def _is_void(source: PartitionRecords, batch: Any) -> bool:
    """Whether the batch is of an aborted transaction, or says how one ended."""
    if source._isolation_level == READ_COMMITTED and batch.producer_id is not None:
        source._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and source._contains_abort_marker(batch):
            source._aborted_producers.discard(batch.producer_id)
        if batch.is_transactional and batch.producer_id in source._aborted_producers:
            return True
    return bool(batch.is_control_batch)
