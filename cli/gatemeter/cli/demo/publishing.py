"""The demo's gateways: real emitters that publish the traffic, and a network that delivers some batches twice."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, Producer, TopicPartition

from gatemeter.cli.demo.people import GATEWAYS
from gatemeter.cli.demo.traffic import Seen
from gatemeter.cli.embedded.system import Embedded
from gatemeter.processors.metadata.reading import headers_of
from gatemeter.producers import Emitter, EmitterSettings
from gatemeter.schemas import codec, signing
from gatemeter.schemas.partitions import EVENTS_TOPIC

BACKLOG_EVENTS: Final = 20_000
CLOSE_SECONDS: Final = 60.0
RESENT_EVENTS: Final = 20
"""Events of each gateway and partition that arrive once more, in a batch cut anew under their epoch and sequences."""


class DemoFailed(Exception):
    """The demo cannot go on, or its result is wrong; the text is one line."""


def publish(system: Embedded, traffic: Sequence[Seen], advance: Callable[[int], None]) -> int:
    """Sends it all through one emitter a gateway and waits for delivery. Returns the number of events sent."""
    with tempfile.TemporaryDirectory(prefix="spool-", dir=system.folder) as spool:
        emitters = {gateway: _emitter(system, gateway, Path(spool) / gateway) for gateway in GATEWAYS}
        for number, seen in enumerate(traffic, 1):
            for _ in range(1 + seen.repeated):
                emitters[seen.gateway].emit(seen.event)
            if number % 500 == 0:
                advance(500)
                while sum(emitter.counters().spooled for emitter in emitters.values()) > BACKLOG_EVENTS:
                    time.sleep(0.01)
        advance(len(traffic) % 500)
        reports = {gateway: emitter.close(CLOSE_SECONDS) for gateway, emitter in emitters.items()}
    for gateway, report in reports.items():
        lost = report.undelivered + report.counters.dropped + report.counters.invalid
        if lost:
            raise DemoFailed(f"gateway {gateway}: {lost} events were not delivered: {report}")
    return sum(report.counters.emitted for report in reports.values())


def _emitter(system: Embedded, gateway: str, spool: Path) -> Emitter:
    kid = system.kids[gateway]
    return Emitter(
        EmitterSettings(
            bootstrap=system.bootstrap,
            gateway_id=gateway,
            gateway_kind=GATEWAYS[gateway],
            kid=kid,
            secret=signing.load_secrets(system.secrets_file)[kid],
            spool_folder=spool,
            attestation_key_file=system.attestation_file(gateway),
        )
    )


def resend(system: Embedded) -> int:
    """What a gateway does that saw no acknowledgement: the first events of each partition go out once more, under their
    old epoch and sequences. Returns how many events."""
    secrets = signing.load_secrets(system.secrets_file)
    failures: list[str] = []
    producer = Producer({"bootstrap.servers": system.bootstrap, "acks": "all", "log_level": 0})
    resent = 0
    for (partition, gateway), batches in _first_batches(system).items():
        kid = system.kids[gateway]
        value, count = _cut_anew(batches)
        headers = {signing.KID_HEADER: kid.encode(), signing.MAC_HEADER: signing.mac(secrets[kid], value)}
        producer.produce(
            EVENTS_TOPIC,
            value,
            gateway.encode(),
            partition,
            on_delivery=lambda error, _: failures.append(str(error)) if error else None,
            headers=list(headers.items()),
        )
        resent += count
    left = producer.flush(30)
    if failures or left:
        raise DemoFailed(f"{len(failures) + left} batches could not be sent again: {', '.join(failures[:1])}")
    return resent


def _first_batches(system: Embedded) -> dict[tuple[int, str], list[bytes]]:
    """By partition and gateway, the first batches until `RESENT_EVENTS` are in them."""
    found: dict[tuple[int, str], list[bytes]] = {
        (partition, gateway): [] for partition in range(system.partitions) for gateway in GATEWAYS
    }
    missing = dict.fromkeys(found, RESENT_EVENTS)
    with _reading(system) as messages:
        for message in messages:
            place = (message.partition() or 0, (message.key() or b"").decode())
            value = message.value() or b""
            if place not in missing or signing.MAC_HEADER not in headers_of(message.headers()):
                continue
            found[place].append(value)
            missing[place] -= len(codec.decode(value).datum["events"])
            if missing[place] <= 0:
                del missing[place]
            if not missing:
                return found
    raise DemoFailed(f"the log holds fewer events than were sent; still missing by partition and gateway: {missing}")


@contextmanager
def _reading(system: Embedded) -> Iterator[Iterator[Message]]:
    consumer = Consumer({"bootstrap.servers": system.bootstrap, "group.id": "demo-resend", "enable.auto.commit": False})
    consumer.assign([TopicPartition(EVENTS_TOPIC, number, OFFSET_BEGINNING) for number in range(system.partitions)])

    def messages() -> Iterator[Message]:
        while (message := consumer.poll(5.0)) is not None:
            error = message.error()
            if error is not None:
                raise KafkaException(error)
            yield message

    try:
        yield messages()
    finally:
        consumer.close()


def _cut_anew(batches: Sequence[bytes]) -> tuple[bytes, int]:
    """One batch of the first `RESENT_EVENTS` events of `batches`, which follow each other in one epoch."""
    decoded = [codec.decode(value).datum for value in batches]
    events = [event for batch in decoded for event in batch["events"]][:RESENT_EVENTS]
    envelope = {name: value for name, value in decoded[0].items() if name != "events"} | {"attestation": None}
    return codec.encode_batch(envelope, [codec.encode_event(event) for event in events]), len(events)
