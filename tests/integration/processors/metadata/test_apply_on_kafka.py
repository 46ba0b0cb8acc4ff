"""Applying metadata on Apache Kafka: twice is once, every partition gets its CONTROL, workers read the same view."""

from __future__ import annotations

from uuid import uuid4

import pytest
from confluent_kafka import Consumer, TopicPartition

from gatemeter.processors.metadata.control import Applied, append_control, apply_metadata
from gatemeter.processors.metadata.log import MetadataLog, MetadataRefused
from gatemeter.processors.metadata.publishing import DeliveryFailed, Draft, RecordTooLarge, append_all
from gatemeter.processors.metadata.publishing import OperatorRecord as Record
from gatemeter.processors.metadata.reading import MetadataUnreachable, headers_of, read_metadata
from gatemeter.schemas.codec import decode
from gatemeter.schemas.signing import OperatorKey, signature_is_valid
from support.kafka import KafkaBroker

PARTITIONS = 3
KEY = OperatorKey.generate("op-1")


def plan(markup_ppm: int) -> Draft:
    return Draft(
        "ChargePlan",
        {
            "plan_id": "standard",
            "effective_from": 0,
            "effective_to": None,
            "markup_ppm": markup_ppm,
            "retry_rule": "final_only",
            "retry_cost_centre": "retries",
            "cache_rule": "free",
            "cache_price_ppm": 0,
            "accept_claimed_identity": True,
        },
    )


class Topics:
    def __init__(self, broker: KafkaBroker) -> None:
        suffix = uuid4().hex[:8]
        self.broker, self.events, self.metadata = broker, f"events-{suffix}", f"metadata-{suffix}"
        broker.create_topic(self.events, partitions=PARTITIONS)
        broker.create_topic(self.metadata, partitions=1)

    def apply(self, *drafts: Draft, key: OperatorKey = KEY) -> Applied:
        return apply_metadata(
            self.broker.bootstrap, drafts, key, events_topic=self.events, metadata_topic=self.metadata
        )

    def records(self, topic: str, partition: int = 0) -> list[tuple[bytes, dict[str, bytes]]]:
        consumer = Consumer({"bootstrap.servers": self.broker.bootstrap, "group.id": "test"})
        where = TopicPartition(topic, partition)
        _, end = consumer.get_watermark_offsets(where, timeout=10)
        consumer.assign([TopicPartition(topic, partition, 0)])
        messages = consumer.consume(end, timeout=20) if end else []
        consumer.close()
        return [(message.value(), headers_of(message.headers())) for message in messages]


@pytest.fixture
def topics(kafka: KafkaBroker) -> Topics:
    return Topics(kafka)


def test_applying_twice_publishes_once_and_puts_control_in_every_partition(topics: Topics) -> None:
    first, second = topics.apply(plan(1_000)), topics.apply(plan(1_000))
    assert (first.published, second.published, second.unchanged) == (1, 0, 1)
    assert (first.metadata_offset, second.metadata_offset) == (1, 1)
    assert first.digest == second.digest
    assert len(topics.records(topics.metadata)) == 1
    assert sorted(first.control_offsets) == list(range(PARTITIONS))
    for partition in range(PARTITIONS):
        controls = topics.records(topics.events, partition)
        assert len(controls) == 2
        for value, headers in controls:
            assert signature_is_valid({KEY.kid: KEY.public_hex}, headers, value)
            datum = decode(value).datum
            assert (datum["topic"], datum["partition"]) == (topics.events, partition)
            assert (datum["metadata_offset"], datum["view_digest"]) == (1, first.digest)


def test_a_change_is_appended_and_earlier_views_stay_as_they_were(topics: Topics) -> None:
    topics.apply(plan(1_000))
    changed = topics.apply(plan(2_000))
    assert (changed.published, changed.metadata_offset) == (1, 2)
    log = read_metadata(topics.broker.bootstrap, {KEY.kid: KEY.public_hex}, topic=topics.metadata).log
    assert log.view(1).plans["standard"][0].plan.markup_ppm == 1_000
    assert log.view(2).plans["standard"][0].plan.markup_ppm == 2_000
    assert log.digest(2) == changed.digest


def test_junk_in_the_topic_is_refused_and_part_of_the_digest(topics: Topics) -> None:
    stranger = OperatorKey.generate("stranger")
    append_all(topics.broker.bootstrap, [Record("junk", topics.metadata, 0, None, b"junk")], stranger)
    applied = topics.apply(plan(1_000))
    copy = read_metadata(topics.broker.bootstrap, {KEY.kid: KEY.public_hex}, topic=topics.metadata)
    assert [refusal.offset for refusal in copy.refused] == [0]
    assert (applied.metadata_offset, applied.refused) == (2, 1)
    replica = MetadataLog({KEY.kid: KEY.public_hex})
    with pytest.raises(MetadataRefused, match="offset 0 refused: not signed by a known operator"):
        replica.append(0, b"junk", {})
    value, headers = topics.records(topics.metadata)[1]
    replica.append(1, value, headers)
    assert replica.digest(2) == applied.digest


def test_what_a_worker_would_refuse_is_not_sent(topics: Topics) -> None:
    with pytest.raises(MetadataRefused, match="ChargePlan 'standard': markup_ppm must be 0 to 10000000, got -1"):
        topics.apply(plan(-1))
    assert topics.records(topics.metadata) == []


def test_a_record_above_the_topic_limit_is_not_sent(topics: Topics) -> None:
    tenant = {
        "tenant_id": "acme",
        "effective_from": 0,
        "effective_to": None,
        "name": "x" * 1_000_000,
        "cost_centre": "",
        "business_unit": None,
        "organisation": None,
        "plan_id": "standard",
        "apps": [],
    }
    with pytest.raises(RecordTooLarge, match="Tenant 'acme' has 1000"):
        topics.apply(Draft("Tenant", tenant))


def test_an_undelivered_record_is_named(topics: Topics) -> None:
    records = [
        Record("good", topics.metadata, 0, None, b"x"),
        Record("too large", topics.metadata, 0, None, bytes(2_000_000)),
    ]
    with pytest.raises(DeliveryFailed, match=r"1 not delivered, 1 delivered; .* too large: ") as failure:
        append_all(topics.broker.bootstrap, records, KEY)
    assert list(failure.value.failed) == ["too large"]


def test_a_missing_topic_is_named_with_the_command_that_makes_it(topics: Topics) -> None:
    with pytest.raises(MetadataUnreachable, match="there is no topic nowhere; create it with: gatemeter topics apply"):
        append_control(topics.broker.bootstrap, "nowhere", KEY, 0, bytes(32))
