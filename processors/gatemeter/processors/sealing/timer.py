"""Sealing by itself: the worker that owns partition 0 of the events topic seals what is over, by a timer of Faust.

Two owners for a moment do no harm. What goes wrong is one line in the log and is tried again at the next tick: facts
go on, hours wait.
"""

from __future__ import annotations

import asyncio
import logging

from faust.types import TP

from gatemeter.processors.clickhouse_client import PATIENCE, clickhouse_of
from gatemeter.processors.kafka_client import librdkafka_client
from gatemeter.processors.ownership import Ownership
from gatemeter.processors.sealing.anchors import anchor_at
from gatemeter.processors.sealing.contents import SealStopped
from gatemeter.processors.sealing.sealer import Sealer, Trusted
from gatemeter.processors.sealing.seals_topic import KafkaSealsTopic, SealsUnreachable
from gatemeter.processors.settings import Settings
from gatemeter.schemas.signing import OperatorKey
from gatemeter.sinks.clickhouse import ClickHouseSink, connect
from gatemeter.sinks.port import SinkError

log = logging.getLogger(__name__)


class SealTimer:
    """Seals in a thread, so that folding goes on. Connects at first use."""

    def __init__(self, settings: Settings, ownership: Ownership) -> None:
        self._settings = settings
        self._ownership = ownership
        self._sealer: Sealer | None = None
        self._said = ""

    async def tick(self) -> None:
        """One look; returns when everything that is over is sealed."""
        owned = self._ownership.partitions.get(TP(self._settings.topic, 0))
        if owned is not None and not owned.waiting_for and self._ownership.failure is None:
            await asyncio.to_thread(self._seal)

    def _seal(self) -> None:
        try:
            self._sealer = self._sealer or make_sealer(self._settings)
            done = self._sealer.run()
        except (SealStopped, SealsUnreachable, SinkError) as error:
            self._sealer = None  # what it has read may be of another topic or database by now
            self._say(f"sealing: {error}")
        except Exception:
            self._sealer = None
            log.exception("sealing failed; the next tick tries again")
        else:
            self._say("; ".join(done.anchor_problems))

    def _say(self, problem: str) -> None:
        if problem and problem != self._said:
            log.error("%s", " ".join(problem.split()))
        self._said = problem


def make_sealer(settings: Settings) -> Sealer:
    """The sealer that a worker's settings name. Raises `SecretsError`, `SealStopped`, `SinkError`."""
    where = clickhouse_of(settings, PATIENCE)
    sealing = settings.sealing
    client = librdkafka_client(settings.security)
    topic = KafkaSealsTopic(",".join(settings.brokers), sealing.seals_topic, settings.topic, client)
    key = OperatorKey.load(sealing.key_file) if sealing.key_file else None
    return Sealer(
        connect(where),
        ClickHouseSink(where),
        topic,
        key,
        Trusted(dict(sealing.sealers), dict(settings.operator_keys)),
        seals_topic=sealing.seals_topic,
        anchors=[anchor_at(place) for place in sealing.anchors],
    )
