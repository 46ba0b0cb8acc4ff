"""Rivals (a) and (b): a plain Faust agent on the stock transport, one message a record; (b) with its state in tables.

python -m benchmarks.contenders.plain_faust [--tables]
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any, Final

import faust
import uvloop
from benchmarks.contenders.event_by_event import Job, begin
from benchmarks.contenders.tables import StateTables, create_changelogs
from faust.worker import Worker

from gatemeter.processors.fold.types import LogRecord
from gatemeter.processors.worker import GC_THRESHOLDS

PARTITIONS: Final = 12


def record_of(message: Any) -> LogRecord:
    """The record as the fold takes it; Faust has its timestamp in seconds."""
    headers = message.headers or ()
    pairs = tuple(headers.items() if isinstance(headers, dict) else headers)
    return LogRecord(message.offset, round(message.timestamp * 1_000) * 1_000, message.key, message.value, pairs)


def build(job: Job, *, with_tables: bool) -> faust.App:
    """The app: one agent, and a task that writes every second."""
    settings = job.settings
    app = faust.App(
        settings.group,
        broker=f"kafka://{settings.brokers[0]}",
        store="memory://",
        topic_partitions=PARTITIONS,
        topic_disable_leader=True,
        topic_allow_declare=False,
        broker_max_poll_records=settings.poll_records,
        consumer_max_fetch_size=settings.fetch_bytes,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
        table_standby_replicas=0,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    topic = app.topic(settings.topic, key_type=None, value_type=None, value_serializer="raw", key_serializer="raw")
    tables = StateTables(app, PARTITIONS) if with_tables else None
    if tables is not None:
        job.on_new_partition = tables.watch
    begun: list[bool] = []

    async def meter(stream: Any) -> None:
        async for event in stream.events():
            if not begun:
                begun.append(True)
                begin()
            message = event.message
            state = job.take(message.partition, record_of(message))
            if tables is not None:
                tables.keep(state)

    app.agent(topic, name="meter")(meter)

    async def write() -> None:
        while True:
            await asyncio.sleep(0.1)
            if job.due:
                await asyncio.to_thread(job.write, job.collect())

    app.task(write)
    return app


def main() -> None:
    """Runs until it is ended from outside."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    job, with_tables = Job(), "--tables" in sys.argv
    if with_tables:
        create_changelogs(job.settings.brokers[0], job.settings.group, PARTITIONS)
    app = build(job, with_tables=with_tables)
    worker = Worker(app, loop=loop, override_logging=False, quiet=True, redirect_stdouts=False)
    worker.spinner = None
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
