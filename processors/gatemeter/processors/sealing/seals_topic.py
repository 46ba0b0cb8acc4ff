"""The topic of seals: read from any offset to its end, appended to with a delivery report. One partition, for ever."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from gatemeter.processors.metadata.publishing import make_producer
from gatemeter.processors.metadata.reading import headers_of
from gatemeter.processors.sealing.chain import SealsRecord
from gatemeter.processors.sealing.hours import Place

ANSWER_SECONDS: Final = 30.0


class SealsUnreachable(Exception):
    """The brokers or the topic of seals cannot be used; the text says which and why. Trying again may help."""


class SealsTopic(Protocol):
    """What a sealer needs of Kafka."""

    def read(self, offset: int) -> Sequence[SealsRecord]:
        """The records from `offset` to the end of the topic as it is now. Raises `SealsUnreachable`."""

    def append(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        """Appends a record; it is in the log on return. Raises `SealsUnreachable`: then it may be there or not."""

    def places(self) -> Sequence[Place]:
        """Every partition that Kafka lists for the events topic. Raises `SealsUnreachable`."""


class KafkaSealsTopic:
    """Implements `SealsTopic`. `client`: more librdkafka settings (TLS, SASL)."""

    def __init__(self, bootstrap: str, topic: str, events_topic: str, client: Mapping[str, Any] | None = None) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._events_topic = events_topic
        self._client = dict(client or {})

    def read(self, offset: int) -> list[SealsRecord]:
        """See `SealsTopic`. Records of transactions that were not committed are not read."""
        consumer = self._consumer()
        try:
            return self._read(consumer, offset)
        except KafkaException as error:
            raise SealsUnreachable(f"{self._bootstrap}: topic {self._topic}: {error.args[0]}") from error
        finally:
            consumer.close()

    def _read(self, consumer: Consumer, offset: int) -> list[SealsRecord]:
        place = TopicPartition(self._topic, 0, offset)
        low, high = consumer.get_watermark_offsets(place, timeout=ANSWER_SECONDS)
        if low > 0:
            raise SealsUnreachable(
                f"topic {self._topic} starts at offset {low}, must start at 0: seals are kept for ever"
            )
        records: list[SealsRecord] = []
        if high <= offset:
            return records
        consumer.assign([place])
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            message = consumer.poll(1.0)
            if message is None:
                if time.monotonic() > deadline:
                    raise SealsUnreachable(f"topic {self._topic} was not read to its end in time")
                continue
            error = message.error()
            if error is None:
                deadline = time.monotonic() + ANSWER_SECONDS
                records.append(
                    SealsRecord(_known(message.offset()), message.value() or b"", headers_of(message.headers()))
                )
            elif error.code() == KafkaError._PARTITION_EOF:
                return records
            elif not error.retriable():
                raise KafkaException(error)

    def append(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        """See `SealsTopic`."""
        problems: list[str] = []
        delivered: list[int] = []

        def report(error: Any, message: Any) -> None:
            if error is None:
                delivered.append(message.offset())
            else:
                problems.append(error.str())

        try:
            producer = make_producer(self._bootstrap, self._client)
            producer.produce(self._topic, value, key, 0, on_delivery=report, headers=list(headers))
            producer.flush(ANSWER_SECONDS + 5)
        except (KafkaException, BufferError) as error:
            problems.append(str(error))
        if not delivered:
            reason = problems[0] if problems else f"no delivery report within {ANSWER_SECONDS:.0f} s"
            raise SealsUnreachable(f"{self._bootstrap}: topic {self._topic}: {reason}")

    def places(self) -> list[Place]:
        """See `SealsTopic`."""
        consumer = self._consumer()
        try:
            found = consumer.list_topics(self._events_topic, timeout=ANSWER_SECONDS).topics[self._events_topic]
        except KafkaException as error:
            raise SealsUnreachable(f"{self._bootstrap}: {error.args[0]}") from error
        finally:
            consumer.close()
        if found.error is not None or not found.partitions:
            raise SealsUnreachable(f"{self._bootstrap}: topic {self._events_topic}: {found.error or 'no partitions'}")
        return [(self._events_topic, partition) for partition in sorted(found.partitions)]

    def _consumer(self) -> Consumer:
        settings = {
            "log_level": 0,
            **self._client,
            "bootstrap.servers": self._bootstrap,
            "group.id": "gatemeter-seals-reader",  # required by the client; with assign() no group is joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 20,
            "allow.auto.create.topics": False,
        }
        try:
            return Consumer(settings)
        except KafkaException as error:
            raise SealsUnreachable(f"{self._bootstrap}: {error.args[0]}") from error


def _known(offset: int | None) -> int:
    if offset is None:
        raise SealsUnreachable("a delivered record without offset")
    return offset
