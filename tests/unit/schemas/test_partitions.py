"""All events of a request meet in the partition that librdkafka itself would choose for the request id."""

from __future__ import annotations

from confluent_kafka import KafkaError, Message, Producer

from gatemeter.schemas.partitions import partition_of

PARTITIONS = 12


def test_partition_of_is_the_consistent_partitioner_of_librdkafka() -> None:
    chosen: dict[str, int] = {}

    def delivered(error: KafkaError | None, message: Message) -> None:
        assert error is None
        key, partition = message.key(), message.partition()
        assert key is not None
        assert partition is not None
        chosen[key.decode()] = partition

    producer = Producer(
        {
            "test.mock.num.brokers": 1,
            "bootstrap.servers": "mock",
            "partitioner": "consistent",
            "test.mock.broker.rtt": 0,
        }
    )
    topic = "partitions"
    partitions = len(producer.list_topics(topic, timeout=20).topics[topic].partitions)
    ids = [f"req-{number:x}-é" for number in range(0, 40_000, 97)]
    for request_id in ids:
        producer.produce(topic, key=request_id.encode(), value=b"", on_delivery=delivered)
    assert producer.flush(30) == 0
    assert chosen == {request_id: partition_of(request_id, partitions) for request_id in ids}
    assert len(set(chosen.values())) == partitions


def test_every_partition_of_the_topic_is_used() -> None:
    assert {partition_of(f"req-{number}", PARTITIONS) for number in range(1_000)} == set(range(PARTITIONS))
