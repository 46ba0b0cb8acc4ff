"""The way to Kafka: an idempotent confluent-kafka producer whose delivery callbacks are the only truth."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from gatemeter.producers.complaints import Complaints

_log: Final = logging.getLogger(__name__)
_METADATA_SECONDS: Final = 2.0
_DEFAULTS: Final[dict[str, Any]] = {
    "enable.idempotence": True,
    "acks": "all",
    "compression.type": "lz4",
    "linger.ms": 5,
    "message.max.bytes": 1_000_000,
    "message.timeout.ms": 0,  # the spool keeps the events, so there is no reason to give up
    "reconnect.backoff.max.ms": 2000,
    "log_level": 0,  # librdkafka writes to the host's stderr otherwise; errors come by callback
}


class Outcome(Enum):
    """What became of a record."""

    DELIVERED = "delivered"
    FAILED = "failed"
    TOO_LARGE = "too large"


class TransportBusy(Exception):
    """The queue to Kafka is full; try again soon."""


class TransportBroken(Exception):
    """The producer cannot go on; a new one can."""


class Transport(Protocol):
    """What the publisher needs of Kafka. Callbacks come during `poll` and `close`, in the same thread."""

    def partitions(self, topic: str) -> int | None:
        """How many partitions `topic` has; None where that cannot be learnt now. May take two seconds."""

    def send(
        self,
        topic: str,
        partition: int,
        *,
        key: bytes,
        value: bytes,
        headers: list[tuple[str, bytes]],
        done: Callable[[Outcome], None],
    ) -> None:
        """Hands a record over. Raises `TransportBusy` or `TransportBroken`; else `done` is called once, later."""

    def poll(self, seconds: float) -> None:
        """Waits at most so long for callbacks."""

    def close(self) -> None:
        """Gives up on what is not delivered: `done` is called with FAILED."""


class KafkaTransport:
    """`settings`: of librdkafka, over our defaults; `bootstrap.servers` among them."""

    def __init__(self, settings: Mapping[str, Any], complaints: Complaints) -> None:
        self._complaints = complaints
        self._producer = Producer({**_DEFAULTS, **settings, "error_cb": self._error})

    def _error(self, error: KafkaError) -> None:
        self._complaints.say(_log, "Kafka: %s; events wait in the spool", error.str())

    def partitions(self, topic: str) -> int | None:
        """Asks for all topics, because asking for one could make a broker create it."""
        try:
            found = self._producer.list_topics(timeout=_METADATA_SECONDS).topics.get(topic)
        except KafkaException as error:
            self._complaints.say(_log, "Kafka cannot be reached (%s); events wait in the spool", error.args[0].str())
            return None
        if found is None or found.error is not None or not found.partitions:
            self._complaints.say(_log, "topic %s does not exist; events wait in the spool", topic)
            return None
        return len(found.partitions)

    def send(
        self,
        topic: str,
        partition: int,
        *,
        key: bytes,
        value: bytes,
        headers: list[tuple[str, bytes]],
        done: Callable[[Outcome], None],
    ) -> None:
        """As in `Transport`."""

        def report(error: KafkaError | None, message: Message) -> None:
            if error is None:
                done(Outcome.DELIVERED)
                return
            self._complaints.say(_log, "a batch for %s[%s] was not delivered: %s", topic, partition, error.str())
            done(Outcome.TOO_LARGE if error.code() == KafkaError.MSG_SIZE_TOO_LARGE else Outcome.FAILED)

        try:
            self._producer.produce(topic, value, key, partition, on_delivery=report, headers=list(headers))
        except BufferError:
            raise TransportBusy from None
        except KafkaException as error:
            if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                done(Outcome.TOO_LARGE)
                return
            raise TransportBroken(error.args[0].str()) from error

    def poll(self, seconds: float) -> None:
        """As in `Transport`."""
        self._producer.poll(seconds)

    def close(self) -> None:
        """As in `Transport`."""
        self._producer.purge()
        self._producer.flush(1.0)

    def immortal(self) -> object:
        """The producer itself: after a fork the child must never destroy it (its threads are not there to end)."""
        return self._producer
