"""The way back out of quarantine: a record is appended unchanged to its partition, or given up by an operator's record.

Repeating either does no harm: of a record that comes again only the holes count, and what is settled stays settled.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaException

from gatemeter.processors.metadata.gateways import Connection
from gatemeter.processors.metadata.publishing import (
    DELIVERY_TIMEOUT_S,
    DeliveryFailed,
    OperatorRecord,
    append_all,
    make_producer,
)
from gatemeter.schemas.codec import encode
from gatemeter.schemas.signing import KID_HEADER
from gatemeter.sinks.reports.quarantine import Place, Refusal, RefusedRecord

NOT_VALID_THEN: Final = "key_not_valid"
"""The reason of refusal that an ADMIT overrules."""


def admit(connection: Connection, records: Sequence[RefusedRecord], digests: Mapping[Place, str], reason: str) -> int:
    """Writes an ADMIT for each record before it is replayed; how many. Raises `DeliveryFailed`."""
    issued_at_us = time.time_ns() // 1_000
    wanted = []
    for record in records:
        datum = {
            "topic": record.topic,
            "partition": record.partition,
            "record_digest": bytes.fromhex(digests[record.place]),
            "kid": dict(record.headers).get(KID_HEADER, b"").decode("utf-8", "replace"),
            "reason": reason,
            "issued_at": issued_at_us,
        }
        label = f"admit of {record.topic}[{record.partition}]@{record.offset}"
        wanted.append(OperatorRecord(label, record.topic, record.partition, None, encode("Admit", datum)))
    return len(append_all(connection.bootstrap, wanted, connection.operator_key, client=connection.client))


def replay(connection: Connection, records: Sequence[RefusedRecord]) -> dict[Place, int]:
    """Appends each record as it was (key, headers, value) to its partition: place → new offset.

    Raises `DeliveryFailed` naming those without a delivery report; the others were appended.
    """
    producer = make_producer(connection.bootstrap, connection.client)
    offsets: dict[Place, int] = {}
    failed: dict[str, str] = {}

    def report(place: Place, error: Any, message: Any) -> None:
        if error is None:
            offsets[place] = message.offset()
        else:
            failed[_label(place)] = error.str()

    for record in records:
        headers: list[tuple[str, str | bytes | None]] = [*record.headers]
        try:
            producer.produce(
                record.topic,
                record.value,
                record.key or None,
                record.partition,
                on_delivery=partial(report, record.place),
                headers=headers,
            )
        except (KafkaException, BufferError) as error:
            failed[_label(record.place)] = str(error)
        producer.poll(0)
    producer.flush(DELIVERY_TIMEOUT_S + 5)
    for record in records:
        if record.place not in offsets:
            failed.setdefault(_label(record.place), f"no delivery report within {DELIVERY_TIMEOUT_S:.0f} s")
    if failed:
        raise DeliveryFailed(failed, len(offsets))
    return offsets


def _label(place: Place) -> str:
    return f"{place[0]}[{place[1]}]@{place[2]}"


def discard(connection: Connection, refusals: Sequence[Refusal], reason: str, *, claimed: bool = False) -> list[int]:
    """Writes a DISCARD for each refused record or event; their offsets. Raises `DeliveryFailed`.

    The sequences of what was not authentic are given up only where `claimed`: a forged record may name sequences that
    its gateway has not sent yet, and these would then count as duplicates.
    """
    issued_at_us = time.time_ns() // 1_000
    wanted = []
    for refusal in refusals:
        known = bool(refusal.claims.epoch) and (bool(refusal.gateway_id) or claimed)
        datum = {
            "topic": refusal.topic,
            "partition": refusal.partition,
            "offset": refusal.offset,
            "event_index": refusal.event_index,
            "gateway_id": refusal.claims.gateway_id if known else "",
            "epoch": refusal.claims.epoch if known else "",
            "first_sequence": refusal.claims.first_sequence if known else 0,
            "next_sequence": refusal.claims.next_sequence if known else 0,
            "reason": reason,
            "issued_at": issued_at_us,
        }
        label = f"discard of {_label(refusal.place)}"
        wanted.append(OperatorRecord(label, refusal.topic, refusal.partition, None, encode("Discard", datum)))
    offsets = append_all(connection.bootstrap, wanted, connection.operator_key, client=connection.client)
    return [offsets[number] for number in range(len(wanted))]
