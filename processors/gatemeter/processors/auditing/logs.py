"""Reads a partition's log for an audit: its bounds, its records in order, one record; no consumer group is joined."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from gatemeter.processors.fold.types import LogRecord
from gatemeter.sinks.reports.audit import CannotCheck

ANSWER_SECONDS: Final = 30.0
"""How long the brokers may say nothing before the log counts as unreadable."""

CHUNK_RECORDS: Final = 5_000


@dataclass(frozen=True)
class Kafka:
    """Where the logs are. `client`: more settings of librdkafka, for example TLS and SASL."""

    bootstrap: str
    client: Mapping[str, Any] | None = None


class LogReader:
    """Reads the partitions of one cluster. A context manager; every method raises `CannotCheck`."""

    def __init__(self, kafka: Kafka) -> None:
        self._bootstrap = kafka.bootstrap
        self._reading = object()
        try:
            self._consumer = Consumer(
                {
                    "log_level": 0,
                    **(kafka.client or {}),
                    "bootstrap.servers": kafka.bootstrap,
                    "group.id": "gatemeter-audit",  # required by the client; with assign() no group is joined
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "error",
                    "isolation.level": "read_committed",
                    "fetch.wait.max.ms": 20,
                    "allow.auto.create.topics": False,
                }
            )
        except KafkaException as error:
            raise CannotCheck(f"{kafka.bootstrap}: {error.args[0]}") from error

    def __enter__(self) -> LogReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        try:
            topics = self._consumer.list_topics(timeout=ANSWER_SECONDS).topics
        except KafkaException as error:
            raise CannotCheck(f"{self._bootstrap}: {error.args[0]}") from error
        if topic not in topics or not topics[topic].partitions:
            raise CannotCheck(f"{self._bootstrap}: there is no topic {topic}")
        return len(topics[topic].partitions)

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """(earliest, end) offsets of the log."""
        try:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_SECONDS)
        except KafkaException as error:
            raise CannotCheck(f"{topic}[{partition}]: {error.args[0]}") from error
        return low, high

    def read(self, topic: str, partition: int, first: int, after: int) -> Iterator[list[LogRecord]]:
        """The records of offsets [first, after) in order, some thousand at a time; other reads may come in between."""
        if first >= after:
            return
        self._reading = reading = object()
        self._consumer.assign([TopicPartition(topic, partition, first)])
        heard = time.monotonic()
        position = first
        while position < after:
            messages = self._consumer.consume(CHUNK_RECORDS, 0.5)
            records, ended = self._records(messages, f"{topic}[{partition}]")
            records = [record for record in records if record.offset < after]
            if records:
                position = records[-1].offset + 1
                yield records
                if self._reading is not reading:
                    self._reading = reading
                    self._consumer.assign([TopicPartition(topic, partition, position)])
            if messages:
                heard = time.monotonic()
            if ended or (messages and not records):
                return  # what is left below `after` are markers of transactions, or the log ends here
            if time.monotonic() - heard > ANSWER_SECONDS:
                raise CannotCheck(f"{topic}[{partition}]: no record from offset {position} on could be read")

    def record_at(self, topic: str, partition: int, offset: int) -> LogRecord:
        """One record."""
        for records in self.read(topic, partition, offset, offset + 1):
            return records[0]
        raise CannotCheck(f"{topic}[{partition}]: there is no record at offset {offset}")

    def _records(self, messages: Sequence[Message], name: str) -> tuple[list[LogRecord], bool]:
        records, ended = [], False
        for message in messages:
            error = message.error()
            if error is None:
                records.append(_record(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                ended = True
            elif not error.retriable():
                raise CannotCheck(f"{name}: {error.str()}")
        return records, ended


def _record(message: Message) -> LogRecord:
    _, timestamp_ms = message.timestamp()
    headers: Any = message.headers() or ()
    return LogRecord(
        int(message.offset() or 0),
        timestamp_ms * 1000,
        _bytes(message.key()),
        _bytes(message.value()) or b"",
        tuple(headers),
    )


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value
