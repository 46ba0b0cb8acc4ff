"""Appends signed operator records to Kafka; only a delivery report counts as delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from gatemeter.processors.metadata.log import MetadataLog, MetadataRefused
from gatemeter.processors.metadata.reading import MetadataCopy, MetadataUnreachable
from gatemeter.processors.metadata.records import id_of
from gatemeter.schemas.codec import Decoded, decode, encode
from gatemeter.schemas.limits import MAX_BATCH_BYTES
from gatemeter.schemas.partitions import METADATA_TOPIC
from gatemeter.schemas.signing import OperatorKey

DELIVERY_TIMEOUT_S: Final = 30.0


class DeliveryFailed(Exception):
    """Records that Kafka did not confirm, by label. The others were delivered; the same command again completes it."""

    def __init__(self, failed: Mapping[str, str], delivered: int) -> None:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in failed.items())
        super().__init__(f"{len(failed)} not delivered, {delivered} delivered; run it again to complete it: {reasons}")
        self.failed = dict(failed)
        self.delivered = delivered


class RecordTooLarge(ValueError):
    """A metadata record that does not fit into one Kafka record."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A metadata record to be published: schema name and content, times as ints of microseconds."""

    name: str
    datum: Mapping[str, Any]

    @property
    def identity(self) -> tuple[str, str, int]:
        """What a later record replaces: kind, id and `effective_from` (0 where it has none)."""
        return identity_of(Decoded(self.name, dict(self.datum)))


def identity_of(record: Decoded) -> tuple[str, str, int]:
    """Kind, id and `effective_from` of a decoded record."""
    return record.name, id_of(record), record.datum.get("effective_from", 0)


def changed(drafts: Sequence[Draft], copy: MetadataCopy) -> list[Draft]:
    """The drafts that say something else than the latest accepted record of their identity."""
    latest = {identity_of(record): record.datum for record in copy.accepted}
    return [draft for draft in drafts if decode(encode(draft.name, draft.datum)).datum != latest.get(draft.identity)]


def check_acceptable(drafts: Sequence[Draft], copy: MetadataCopy, operator_key: OperatorKey) -> None:
    """Raises what a worker would refuse (`MetadataRefused`), or `RecordTooLarge`, before anything is sent."""
    trial = MetadataLog({operator_key.kid: operator_key.public_hex})
    current = {identity_of(record): Draft(record.name, record.datum) for record in copy.accepted}
    replaced = {draft.identity for draft in drafts}
    kept = [draft for identity, draft in current.items() if identity not in replaced]
    for offset, draft in enumerate([*kept, *drafts]):
        value = encode(draft.name, draft.datum)
        if len(value) > MAX_BATCH_BYTES:
            raise RecordTooLarge(f"{_label(draft)} has {len(value)} bytes, must have at most {MAX_BATCH_BYTES}")
        try:
            trial.append(offset, value, dict(operator_key.headers(value)))
        except MetadataRefused as refusal:
            raise MetadataRefused(copy.log.loaded_to, f"{_label(draft)}: {refusal.reason}") from refusal


def _label(draft: Draft) -> str:
    kind, entry_id, _ = draft.identity
    return f"{kind} {entry_id!r}" if entry_id else kind


def publish(
    bootstrap: str,
    drafts: Sequence[Draft],
    operator_key: OperatorKey,
    *,
    topic: str = METADATA_TOPIC,
    client: Mapping[str, Any] | None = None,
) -> list[int]:
    """Signs and appends drafts in order; their offsets. Raises `DeliveryFailed`, `MetadataUnreachable`."""
    records = []
    for draft in drafts:
        value = encode(draft.name, draft.datum)
        key = "/".join(part for part in draft.identity[:2] if part)
        records.append(OperatorRecord(_label(draft), topic, 0, key.encode(), value))
    offsets = append_all(bootstrap, records, operator_key, client=client)
    return [offsets[index] for index in range(len(records))]


@dataclass(frozen=True, slots=True)
class OperatorRecord:
    """One record to be signed and appended; `label` names it in errors."""

    label: str
    topic: str
    partition: int
    key: bytes | None
    value: bytes


def append_all(
    bootstrap: str,
    records: Sequence[OperatorRecord],
    operator_key: OperatorKey,
    *,
    client: Mapping[str, Any] | None = None,
) -> dict[int, int]:
    """Appends each record and waits for its delivery report: index → offset. Raises `DeliveryFailed`.

    `flush()` says nothing about failures (it returns 0 also when every record failed), so each report is counted.
    """
    offsets: dict[int, int] = {}
    failed: dict[str, str] = {}
    producer = make_producer(bootstrap, client)

    def report(index: int, error: Any, message: Any) -> None:
        if error is None:
            offsets[index] = message.offset()
        else:
            failed[records[index].label] = error.str()

    for index, record in enumerate(records):
        try:
            producer.produce(
                record.topic,
                record.value,
                record.key,
                record.partition,
                on_delivery=partial(report, index),
                headers=[*operator_key.headers(record.value)],
            )
        except (KafkaException, BufferError) as error:
            failed[record.label] = str(error)
    producer.flush(DELIVERY_TIMEOUT_S + 5)
    for index, record in enumerate(records):
        if index not in offsets:
            failed.setdefault(record.label, f"no delivery report within {DELIVERY_TIMEOUT_S:.0f} s")
    if failed:
        raise DeliveryFailed(failed, len(offsets))
    return offsets


def make_producer(bootstrap: str, client: Mapping[str, Any] | None) -> Producer:
    """An idempotent producer with acks of all in-sync replicas; raises `MetadataUnreachable` for bad settings."""
    settings = {
        **{name: value for name, value in (client or {}).items() if name != "isolation.level"},
        "log_level": 0,  # what goes wrong is raised, not printed
        "bootstrap.servers": bootstrap,
        "acks": "all",
        "enable.idempotence": True,
        "allow.auto.create.topics": False,
        "message.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
        "linger.ms": 5,
        "message.max.bytes": 1_000_000,
    }
    try:
        return Producer(settings)
    except KafkaException as error:
        raise MetadataUnreachable(f"{bootstrap}: {error.args[0]}") from error
