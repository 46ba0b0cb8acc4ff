"""CONTROL records: from here on, in this partition, the view below this metadata offset is in force."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaException

from gatemeter.processors.metadata.publishing import (
    Draft,
    OperatorRecord,
    append_all,
    changed,
    check_acceptable,
    make_producer,
    publish,
)
from gatemeter.processors.metadata.reading import MetadataUnreachable, read_metadata
from gatemeter.schemas.codec import encode
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC
from gatemeter.schemas.signing import OperatorKey

LIST_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did: metadata records appended, the view in force and where its CONTROL records are."""

    published: int
    unchanged: int
    metadata_offset: int
    digest: bytes
    control_offsets: Mapping[int, int]
    refused: int = 0
    """Records of the topic that do not count: of an operator who is not known here, or out of range."""


def partitions_of(bootstrap: str, topic: str, *, client: Mapping[str, Any] | None = None) -> list[int]:
    """Partition numbers of an existing topic. Raises `MetadataUnreachable`."""
    producer = make_producer(bootstrap, client)
    try:
        # All topics are listed: asking for one by name would create it where brokers create topics on request.
        topics = producer.list_topics(timeout=LIST_TIMEOUT_S).topics
    except KafkaException as error:
        raise MetadataUnreachable(f"{bootstrap}: {error.args[0]}") from error
    if topic not in topics or not topics[topic].partitions:
        raise MetadataUnreachable(f"{bootstrap}: there is no topic {topic}; create it with: gatemeter topics apply")
    return sorted(topics[topic].partitions)


def append_control(
    bootstrap: str,
    topic: str,
    operator_key: OperatorKey,
    metadata_offset: int,
    digest: bytes,
    *,
    reason: str = "",
    client: Mapping[str, Any] | None = None,
) -> dict[int, int]:
    """Appends a CONTROL for this view to every partition: partition → offset. Repeating it does no harm.

    Raises `DeliveryFailed` naming each partition without a delivery report; the others have theirs.
    """
    partitions = partitions_of(bootstrap, topic, client=client)
    issued_at_us = time.time_ns() // 1_000
    records = [
        OperatorRecord(
            f"{topic} partition {partition}",
            topic,
            partition,
            None,
            control_value(topic, partition, metadata_offset, digest, issued_at_us, reason),
        )
        for partition in partitions
    ]
    offsets = append_all(bootstrap, records, operator_key, client=client)
    return {partitions[index]: offsets[index] for index in range(len(partitions))}


def control_value(
    topic: str, partition: int, metadata_offset: int, digest: bytes, issued_at_us: int, reason: str = ""
) -> bytes:
    """The value of one CONTROL record; it names its partition, so that a copy elsewhere is found out."""
    control = {
        "topic": topic,
        "partition": partition,
        "metadata_offset": metadata_offset,
        "view_digest": digest,
        "issued_at": issued_at_us,
        "reason": reason,
    }
    return encode("Control", control)


def apply_metadata(
    bootstrap: str,
    drafts: Sequence[Draft],
    operator_key: OperatorKey,
    *,
    operator_keys: Mapping[str, str] | None = None,
    events_topic: str = EVENTS_TOPIC,
    metadata_topic: str = METADATA_TOPIC,
    reason: str = "",
    client: Mapping[str, Any] | None = None,
) -> Applied:
    """Publishes what changed and puts the view of all metadata in force in every partition.

    Applying the same again publishes nothing and appends the same CONTROL again, which completes an apply that was cut
    short. `operator_keys`: public keys of other operators whose records count (this one's key is added).
    `reason`: why, in the operator's words; it stands in the CONTROL records.

    1. metadata is read and the drafts are checked: nothing is sent if a worker would refuse one
    2. changed records are appended: a crash here leaves records that no CONTROL names, without effect
    3. metadata is read again to its end, for the digest: records of another operator may have come between
    4. CONTROL goes to every partition: a crash here leaves some partitions on the old view; apply again
    """
    trusted = {**(operator_keys or {}), operator_key.kid: operator_key.public_hex}
    partitions_of(bootstrap, events_topic, client=client)
    copy = read_metadata(bootstrap, trusted, topic=metadata_topic, client=client)
    fresh = changed(drafts, copy)
    check_acceptable(fresh, copy, operator_key)
    if fresh:
        publish(bootstrap, fresh, operator_key, topic=metadata_topic, client=client)
        copy = read_metadata(bootstrap, trusted, topic=metadata_topic, client=client)
    offset = copy.log.loaded_to
    digest = copy.log.digest(offset)
    controls = append_control(bootstrap, events_topic, operator_key, offset, digest, reason=reason, client=client)
    return Applied(len(fresh), len(drafts) - len(fresh), offset, digest, controls, len(copy.refused))
