"""The map of a worker: transport → ownership → fold → flush; metadata, ticks, seals, budgets, exceptions beside."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import faust
from mode import CrashingSupervisor

from gatemeter.processors import health, metrics
from gatemeter.processors.assignment import FoldFactory, Opener
from gatemeter.processors.budget_timer import BudgetTimer
from gatemeter.processors.exception_timer import ExceptionTimer
from gatemeter.processors.flush import Flusher
from gatemeter.processors.kafka_client import aiokafka_client, faust_credentials
from gatemeter.processors.log_bounds import ConsumerBounds
from gatemeter.processors.metadata.log import MetadataLog
from gatemeter.processors.metadata_reader import MetadataReader
from gatemeter.processors.ownership import Ownership, Tools
from gatemeter.processors.partition import PartitionFold
from gatemeter.processors.rereading import KafkaLogReader
from gatemeter.processors.sealing.timer import SealTimer
from gatemeter.processors.settings import Settings
from gatemeter.processors.ticks import Headers, Ticker
from gatemeter.processors.transport import BatchConsumer, BatchTransport
from gatemeter.processors.trust import LiveTrust
from gatemeter.sinks.port import FactSink

IDLE_SECONDS: Final = 7 * 86_400.0
"""How long a worker may fetch nothing without leaving the group: as long as its sink may be away."""

COMMIT_EVERY_SECONDS: Final = 1.0


class MeterApp(faust.App):
    """A Faust app on the batch-delivering transport. `gear` is set right after it is made."""

    gear: Gear

    def _new_transport(self) -> Any:
        return BatchTransport(self.conf.broker_consumer, self, owner=self.gear.ownership)

    def _create_directories(self) -> None:
        """None: nothing is kept on disk."""

    async def on_start(self) -> None:
        await super().on_start()
        self.gear.start()

    async def on_stop(self) -> None:
        await self.gear.stop()
        await super().on_stop()


@dataclass
class Gear:
    """The parts of a worker that are not Faust's."""

    ownership: Ownership
    flusher: Flusher
    reader: MetadataReader
    ticker: Ticker
    log_reader: KafkaLogReader

    def start(self) -> None:
        """Starts what runs beside the partitions; the worker fails with any of them."""
        self._tasks = [self._watch(part.run()) for part in (self.reader, self.flusher, self.ticker)]

    def _watch(self, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self.ownership.watch(asyncio.create_task(run))

    async def stop(self) -> None:
        """Writes what is folded, then ends."""
        await self.ownership.stop()
        for task in self._tasks:
            task.cancel()
        await self.log_reader.close()


def build_app(settings: Settings, sink: FactSink, make_fold: FoldFactory | None = None) -> MeterApp:
    """The app of one worker. `make_fold` replaces `PartitionFold` (tests of the app alone)."""
    app = MeterApp(settings.group, **_faust_settings(settings))
    app.gear = _build_gear(app, settings, sink, make_fold)
    events = app.topic(settings.topic, key_type=None, value_type=None, value_serializer="raw", acks=True)
    ownership = app.gear.ownership

    async def meter(chunks: Any) -> None:
        async for event in chunks.noack().events():
            ownership.deliver(event.message)

    app.agent(events, name="meter", supervisor_strategy=CrashingSupervisor)(meter)
    budgets = BudgetTimer(settings, ownership)
    app.timer(settings.budgets_every_ms / 1000)(budgets.tick)
    if settings.exceptions.every_ms:
        app.timer(settings.exceptions.every_ms / 1000)(ExceptionTimer(settings, ownership).tick)
    if settings.web_port:
        health.add_page(app, ownership, app.gear.flusher)
        metrics.add_page(app, ownership, app.gear.flusher, lambda: budgets.latest)
    if settings.sealing.key_file is not None:
        app.timer(settings.sealing.every_ms / 1000)(SealTimer(settings, ownership).tick)
    return app


def _build_gear(app: MeterApp, settings: Settings, sink: FactSink, make_fold: FoldFactory | None) -> Gear:
    live = LiveTrust(settings.secrets_file, settings.operator_keys)
    metadata = MetadataLog(settings.operator_keys, settings.metadata_topic)
    isolation = "read_uncommitted" if settings.embedded_broker else "read_committed"
    client = aiokafka_client(settings)
    reader = MetadataReader(metadata, settings.metadata_topic, client, isolation_level=isolation)
    flusher = Flusher(
        sink,
        rows=settings.flush_rows,
        interval_seconds=settings.flush_interval_ms / 1000,
        max_unflushed_rows=settings.max_unflushed_rows,
    )
    fold = make_fold or _fold_factory(settings, metadata, live)
    bounds = ConsumerBounds(lambda: cast(BatchConsumer, app.consumer))
    opener = Opener(sink, bounds, fold, reader.wait_for, trust_end=not settings.embedded_broker)
    again = KafkaLogReader(client, isolation_level=isolation)
    tools = Tools(opener, flusher, again, live.reload, settings.fold_bytes, settings.fold_linger_ms / 1000)
    stop_seconds = settings.stop_timeout_ms / 1000
    ownership = Ownership(tools, embedded_broker=settings.embedded_broker, stop_seconds=stop_seconds)
    after_seconds = settings.tick_after_ms / 1000
    ticker = Ticker(ownership, metadata, live.trust.secrets, _appender(app), after_seconds=after_seconds)
    return Gear(ownership, flusher, reader, ticker, again)


def _fold_factory(settings: Settings, metadata: MetadataLog, live: LiveTrust) -> FoldFactory:
    def make(topic: str, partition: int, partitions: int, checkpoint: Mapping[str, Any] | None) -> PartitionFold:
        return PartitionFold(
            topic=topic,
            partition=partition,
            partitions=partitions,
            metadata=metadata,
            trust=live.trust,
            worker=settings.worker,
            checkpoint=checkpoint,
        )

    return make


def _appender(app: MeterApp) -> Any:
    async def append(topic: str, partition: int, key: bytes, value: bytes, headers: Headers) -> None:
        producer = await app.maybe_start_producer()
        await producer.send_and_wait(topic, key, value, partition, None, cast(Any, headers))

    return append


def _faust_settings(settings: Settings) -> dict[str, Any]:
    session_seconds = settings.session_timeout_ms / 1000
    return {
        "broker": [f"kafka://{broker}" for broker in settings.brokers],
        "broker_credentials": faust_credentials(settings.security),
        "broker_session_timeout": session_seconds,
        "broker_heartbeat_interval": session_seconds / 4,
        "broker_request_timeout": max(90.0, session_seconds),
        "broker_rebalance_timeout": max(60.0, 2 * settings.stop_timeout_ms / 1000),
        "broker_max_poll_interval": IDLE_SECONDS,
        "broker_max_poll_records": settings.poll_records,
        "broker_commit_interval": COMMIT_EVERY_SECONDS,
        "consumer_max_fetch_size": settings.fetch_bytes,
        "producer_acks": -1,
        "store": "memory://",
        "stream_wait_empty": False,
        "table_standby_replicas": 0,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "web_enabled": bool(settings.web_port),
        "web_bind": settings.web_host,
        "web_host": settings.web_host,
        "web_port": settings.web_port or 6066,
        "worker_redirect_stdouts": False,
    }


__all__ = ["Gear", "MeterApp", "build_app"]
