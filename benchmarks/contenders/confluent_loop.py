"""Rival (c): a hand-written confluent-kafka loop; records in lists of thousands, the job event by event.

python -m benchmarks.contenders.confluent_loop
"""

from __future__ import annotations

from typing import Final

from benchmarks.contenders.event_by_event import Job, begin
from confluent_kafka import Consumer, KafkaException, Message

from gatemeter.processors.fold.types import LogRecord

MESSAGES: Final = 5_000


def record_of(message: Message) -> LogRecord:
    """The record as the fold takes it."""
    error = message.error()
    if error is not None:
        raise KafkaException(error)
    headers = tuple((name, value or b"") for name, value in message.headers() or ())
    return LogRecord(
        message.offset() or 0, message.timestamp()[1] * 1_000, message.key(), message.value() or b"", headers
    )


def main() -> None:
    """Runs until it is ended from outside."""
    job = Job()
    consumer = Consumer(
        {
            "bootstrap.servers": job.settings.brokers[0],
            "group.id": job.settings.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.message.max.bytes": job.settings.fetch_bytes,
        }
    )
    consumer.subscribe([job.settings.topic])
    first = True
    while True:
        messages = consumer.consume(MESSAGES, timeout=0.2)
        if messages and first:
            begin()
            first = False
        for message in messages:
            job.take(message.partition() or 0, record_of(message))
        if job.due:
            job.write(job.collect())
            consumer.commit(asynchronous=True)


if __name__ == "__main__":
    main()
