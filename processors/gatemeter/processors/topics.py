"""The topics as gatemeter needs them: created once, held to their partition count, started with a CONTROL each.

The number of partitions never changes: offsets, sequences and the place of a request would lose their meaning.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the package has no list of its exports
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from gatemeter.processors.fold.types import FOLD_RELEASE
from gatemeter.processors.metadata.control import Applied
from gatemeter.processors.metadata.entries import Parameters
from gatemeter.processors.metadata.gateways import Connection
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.reading import read_metadata
from gatemeter.schemas.partitions import SEALS_TOPIC

PARTITIONS: Final = 12
RETENTION_DAYS: Final = 7
MAX_MESSAGE_BYTES: Final = 1_000_000
ANSWER_SECONDS: Final = 30.0
LEADERS_SECONDS: Final = 60.0
"""How long new partitions may be without a leader; a single question is given a tenth of it."""

_DAY_MS: Final = 86_400_000
_TIME: Final = "message.timestamp.type"
_FOR_EVER: Final = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


class TopicsError(Exception):
    """A topic is not as gatemeter needs it, or the brokers refuse; the text says what to do."""


@dataclass(frozen=True)
class Wanted:
    """A topic as it has to be."""

    name: str
    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True)
class TopicsApplied:
    """`created`: names of the new topics. `applied`: the CONTROL records that complete every partition."""

    created: tuple[str, ...]
    applied: Applied


def wanted_topics(
    connection: Connection, *, partitions: int, retention_days: int, embedded: bool, seals_topic: str = SEALS_TOPIC
) -> tuple[Wanted, ...]:
    """The three topics. `embedded`: for the broker of `gatemeter local`, which knows neither setting."""
    if not 1 <= partitions <= 10_000:
        raise TopicsError(f"partitions must be 1 to 10000, got {partitions}")
    if not 1 <= retention_days <= 3_650:
        raise TopicsError(f"retention must be 1 to 3650 days, got {retention_days}")
    events = {
        _TIME: "LogAppendTime",
        "cleanup.policy": "delete",
        "retention.ms": str(retention_days * _DAY_MS),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }
    wanted = (
        Wanted(connection.events_topic, partitions, events),
        Wanted(connection.metadata_topic, 1, _FOR_EVER),
        Wanted(seals_topic, 1, _FOR_EVER),
    )
    return tuple(Wanted(topic.name, topic.partitions, {}) for topic in wanted) if embedded else wanted


def apply_topics(
    connection: Connection,
    *,
    partitions: int = PARTITIONS,
    replication: int = 1,
    retention_days: int = RETENTION_DAYS,
    embedded: bool = False,
    seals_topic: str = SEALS_TOPIC,
    reason: str = "",
) -> TopicsApplied:
    """Creates what is missing and writes the first CONTROL into every partition. Repeating it does no harm.

    1. topics that exist are checked: nothing is created beside one that is wrong
    2. missing topics are created: a crash here leaves some; apply again
    3. the fold's default parameters are published where the metadata is empty: without effect until a CONTROL
    4. CONTROL goes to every partition: a worker refuses a partition without one; apply again

    Raises `TopicsError`, and what `apply_metadata` raises.
    """
    wanted = wanted_topics(
        connection, partitions=partitions, retention_days=retention_days, embedded=embedded, seals_topic=seals_topic
    )
    admin = _admin(connection)
    try:
        existing = _partition_counts(admin)
        for topic in wanted:
            _check(admin, topic, existing)
        missing = [topic for topic in wanted if topic.name not in existing]
        _create(admin, missing, replication)
        _wait_for_leaders(connection, missing)
    except KafkaException as error:
        raise TopicsError(f"{connection.bootstrap}: {error.args[0]}") from error
    applied = connection.apply(_first_metadata(connection), reason)
    return TopicsApplied(tuple(topic.name for topic in missing), applied)


def _admin(connection: Connection) -> AdminClient:
    return AdminClient({**(connection.client or {}), "bootstrap.servers": connection.bootstrap, "log_level": 0})


def _partition_counts(admin: AdminClient) -> dict[str, int]:
    topics = admin.list_topics(timeout=ANSWER_SECONDS).topics
    return {name: len(found.partitions) for name, found in topics.items() if found.partitions}


def _check(admin: AdminClient, topic: Wanted, existing: Mapping[str, int]) -> None:
    count = existing.get(topic.name)
    if count is None:
        return
    if count != topic.partitions:
        raise TopicsError(
            f"{topic.name} has {count} partitions, {topic.partitions} are asked for: the number never changes;"
            " to grow, create a new generation of the topic under another name"
        )
    found = _config(admin, topic.name)
    for name in (_TIME, "cleanup.policy"):
        asked = topic.config.get(name)
        if asked is not None and found.get(name) != asked:
            raise TopicsError(
                f"{topic.name}: {name} must be {asked}, got {found.get(name)}; set it before the first record,"
                f" for example: kafka-configs.sh --alter --entity-type topics --entity-name {topic.name}"
                f" --add-config {name}={asked}"
            )


def _config(admin: AdminClient, topic: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    found = admin.describe_configs([resource], request_timeout=ANSWER_SECONDS)[resource].result(ANSWER_SECONDS)
    return {name: str(entry.value) for name, entry in found.items()}


def _create(admin: AdminClient, topics: list[Wanted], replication: int) -> None:
    if not topics:
        return
    new = [
        NewTopic(topic.name, num_partitions=topic.partitions, replication_factor=replication, config=dict(topic.config))
        for topic in topics
    ]
    answers: dict[str, Any] = admin.create_topics(new, operation_timeout=ANSWER_SECONDS)
    for answer in answers.values():
        answer.result(ANSWER_SECONDS)


def _wait_for_leaders(connection: Connection, topics: list[Wanted]) -> None:
    """A topic that was just created has no leaders for a moment: brokers answer that they lead nothing of it.

    Each try has a client of its own: one that once saw a partition without a leader may say so for minutes.
    """
    wanted = {TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)}
    deadline = time.monotonic() + LEADERS_SECONDS
    while wanted:
        places = {place: OffsetSpec.earliest() for place in wanted}  # type: ignore[no-untyped-call]
        admin = _admin(connection)
        for place, answer in admin.list_offsets(places, request_timeout=LEADERS_SECONDS / 10).items():
            try:
                answer.result(ANSWER_SECONDS)
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
            else:
                wanted.discard(place)
        if wanted:
            time.sleep(0.1)


def _first_metadata(connection: Connection) -> list[Draft]:
    """The default parameters, said explicitly, where nothing has been published yet."""
    copy = read_metadata(
        connection.bootstrap, connection.trusted, topic=connection.metadata_topic, client=connection.client
    )
    if copy.log.loaded_to:
        return []
    default = Parameters()
    thresholds = default.latency
    datum = {
        "horizon_us": default.horizon_us,
        "future_bound_us": default.future_bound_us,
        "orphan_timer_us": default.orphan_timer_us,
        "grace_us": default.grace_us,
        "latency_thresholds": {
            "version": thresholds.version,
            "fast_below_us": thresholds.fast_below_us,
            "normal_below_us": thresholds.normal_below_us,
            "slow_below_us": thresholds.slow_below_us,
        },
        "fold_release": FOLD_RELEASE,
    }
    return [Draft("Parameters", datum)]
