"""Reads the whole metadata topic into a `MetadataLog`, without a consumer group, to the end as it is now."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from gatemeter.processors.metadata.log import MetadataLog, MetadataRefused
from gatemeter.schemas.codec import Decoded, decode
from gatemeter.schemas.partitions import METADATA_TOPIC

DEADLINE_S: Final = 30.0


class MetadataUnreachable(Exception):
    """The broker or the topic cannot be used; the text says which and why."""


@dataclass
class MetadataCopy:
    """What the topic held: the log, the accepted records in order, and why others were refused."""

    log: MetadataLog
    accepted: list[Decoded] = field(default_factory=list)
    refused: list[MetadataRefused] = field(default_factory=list)

    def take(self, offset: int, value: bytes, headers: Mapping[str, bytes], at_us: int = 0) -> None:
        """Appends one record; a refused one is noted."""
        try:
            self.log.append(offset, value, headers, at_us)
        except MetadataRefused as refusal:
            self.refused.append(refusal)
        else:
            self.accepted.append(decode(value))


def read_metadata(
    bootstrap: str,
    operator_keys: Mapping[str, str],
    *,
    topic: str = METADATA_TOPIC,
    client: Mapping[str, Any] | None = None,
    deadline_s: float = DEADLINE_S,
) -> MetadataCopy:
    """The topic from offset 0 to its end; `client` is more librdkafka settings (TLS, SASL).

    Raises `MetadataUnreachable`.
    """
    consumer = Consumer(
        {
            "log_level": 0,
            **(client or {}),
            "bootstrap.servers": bootstrap,
            "group.id": "gatemeter-metadata-reader",  # required by the client; with assign() no group is joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,  # the end is known by an empty fetch: do not wait for more
            "allow.auto.create.topics": False,
        }
    )
    try:
        return _read(consumer, topic, operator_keys, time.monotonic() + deadline_s)
    except KafkaException as error:
        raise MetadataUnreachable(f"{bootstrap}: topic {topic}: {error.args[0]}") from error
    finally:
        consumer.close()


def _read(consumer: Consumer, topic: str, operator_keys: Mapping[str, str], deadline: float) -> MetadataCopy:
    low, _ = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=max(1.0, deadline - time.monotonic()))
    if low != 0:
        raise MetadataUnreachable(f"topic {topic} starts at offset {low}, must start at 0: metadata is kept for ever")
    copy = MetadataCopy(MetadataLog(operator_keys, topic))
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    while True:
        message = consumer.poll(1.0)
        if message is None:
            if time.monotonic() > deadline:
                raise MetadataUnreachable(f"topic {topic} was not read to its end in time; is the broker reachable?")
            continue
        error = message.error()
        if error is None:
            copy.take(
                _offset(message),
                message.value() or b"",
                headers_of(message.headers()),
                message.timestamp()[1] * 1_000,
            )
        elif error.code() == KafkaError._PARTITION_EOF:
            return copy
        elif not error.retriable():
            raise KafkaException(error)


def _offset(message: Message) -> int:
    offset = message.offset()
    if offset is None:
        raise MetadataUnreachable("a delivered record without offset")
    return offset


def headers_of(headers: Any) -> dict[str, bytes]:
    """Kafka headers by name; of a repeated one the last counts, a null value is empty."""
    return {name: value or b"" for name, value in headers or ()}
