"""The transport stands on private methods of pinned libraries: this fails when one of them is no longer what was read.

After an upgrade: read what changed, make sure that the reasons in `transport.py` still hold, then renew the digest.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher, group_coordinator
from faust.app.base import App
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, ConsumerRebalanceListener
from faust.transport.drivers.aiokafka import Consumer as AiokafkaConsumer

PINNED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}

OVERRIDDEN: dict[Callable[..., Any], str] = {
    Consumer._reset_state: "488b46f5c7f1d0b0",
    Consumer.perform_seek: "0e8c130ff4b0afd8",
    Consumer.on_partitions_revoked: "d04b7ae72c6fc206",
    Consumer.on_partitions_assigned: "29ce96596f05a18c",
    Consumer.getmany: "4b168d84882a70d6",
    Consumer._wait_next_records: "6218e1969a636b3f",
    Consumer.track_message: "217d7f1399a4cd8e",
    Consumer.ack: "5fcf41cf45153475",
    Consumer.commit: "a354437baaa08bf8",
    Consumer.force_commit: "cc094614d22c70fb",
    Consumer._commit_tps: "a20e230b05ae8b15",
    Consumer._filter_committable_offsets: "dc5e9baf5d994485",
    Consumer._filter_tps_with_pending_acks: "f6f9239774234e7e",
    Consumer._commit_offsets: "1a69799041188441",
    Consumer._should_commit: "5ce941793947ad42",
    Consumer._new_offset: "1d2c7ea89a7ad4f1",
    Consumer._add_gap: "4df2573ded7c1c2c",
    Consumer._drain_messages: "44a2500309e83c63",
    Consumer.verify_event_path: "aead7dc3d8dc43fa",
    Consumer.pause_partitions: "27a1c94bdacd54de",
    Consumer.resume_partitions: "afe6b7c02a41d63c",
    Consumer._get_active_partitions: "b24897f3c7afdb5d",
    Consumer._set_active_tps: "401f4dc883191950",
    Consumer.on_stop: "45b1d2210ce2b526",
    AiokafkaConsumer._to_message: "7c24f6511b2fcef7",
    AiokafkaConsumer._new_consumer_thread: "0870ec53dea75083",
    AIOKafkaConsumerThread.__post_init__: "913dc7c0d9578e2d",
    AIOKafkaConsumerThread.on_start: "38b4e8bd1e10723a",
    AIOKafkaConsumerThread._create_worker_consumer: "c2701bfc3e6f6cad",
    AIOKafkaConsumerThread.getmany: "26fc5fc9f3b667e1",
    AIOKafkaConsumerThread._fetch_records: "39a2c6c79fc1455a",
    AIOKafkaConsumerThread._commit: "932852ce7a23f658",
    AIOKafkaConsumerThread.on_thread_stop: "8dfc004e258b6c25",
    ConsumerRebalanceListener.on_partitions_revoked: "348c3aec879faf80",
    ConsumerRebalanceListener.on_partitions_assigned: "1c1f8406ad3698a6",
    App._new_transport: "42db531312dd776f",
    App._create_directories: "a9f571c3b04abec3",
    App._on_partitions_revoked: "d5c895bbe57dc73a",
    App._on_partitions_assigned: "de932b7927db85b3",
    App._stop_consumer: "55854a5de12c3f52",
    App.on_start: "480d70c6c72d042d",
    App.on_stop: "bfe5a933defb2324",
    Recovery._resume_streams: "d986a6710c1aca98",
    AIOKafkaConsumer.start: "2f1ba70443327538",
    AIOKafkaConsumer.seek: "a9430f1f3b9ac419",
    fetcher.FetchResult.check_assignment: "b5340df67e3f330f",
    fetcher.FetchResult.getall: "3e717e30de5068d5",
    fetcher.FetchResult._update_position: "83fb1473bf10027b",
    fetcher.PartitionRecords._unpack_records: "b803e6d46480732c",
    fetcher.PartitionRecords._consume_aborted_up_to: "56876530cd6412f3",
    fetcher.PartitionRecords._contains_abort_marker: "17e9ad2322ef4e0a",
    fetcher.PartitionRecords._consumer_record: "e668541600b047ab",
    fetcher.FetchResult.has_more: "a25ee8ab93405df6",
    fetcher.Fetcher.seek_to: "f0ba6aba6c22ef83",
    fetcher.Fetcher.fetched_records: "be4348896b9b66af",
    fetcher.Fetcher._update_fetch_positions: "d7774d8241dc6a7e",
    group_coordinator.GroupCoordinator._on_join_prepare: "4d9524afc0ee2c2f",
}


def digest(method: Callable[..., Any]) -> str:
    return hashlib.sha256(inspect.getsource(method).encode()).hexdigest()[:16]


@pytest.mark.parametrize("package", PINNED)
def test_the_libraries_are_the_pinned_ones(package: str) -> None:
    assert version(package) == PINNED[package]


@pytest.mark.parametrize("method", OVERRIDDEN, ids=lambda method: method.__qualname__)
def test_a_private_method_is_what_was_read(method: Callable[..., Any]) -> None:
    assert digest(method) == OVERRIDDEN[method], f"{method.__module__}.{method.__qualname__} has changed"
