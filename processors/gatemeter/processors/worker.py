"""The worker process: a Faust worker on uvloop that ends with exit code 1 when it cannot go on."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from datetime import timedelta
from typing import Final

import uvloop
from faust.worker import Worker

from gatemeter.processors.app import MeterApp, build_app
from gatemeter.processors.clickhouse_client import clickhouse_of
from gatemeter.processors.settings import Settings
from gatemeter.sinks.clickhouse import ClickHouseSink
from gatemeter.sinks.port import FactSink

GC_THRESHOLDS: Final = (50_000, 20, 100)
"""Records and rows are made and dropped by the thousand; the default of 700 costs 3 to 15 %."""

log = logging.getLogger(__name__)


def clickhouse_sink(settings: Settings) -> ClickHouseSink:
    """The sink that the settings name."""
    return ClickHouseSink(clickhouse_of(settings, timedelta(milliseconds=settings.clickhouse_timeout_ms)))


def run_worker(settings: Settings, sink: FactSink | None = None) -> int:
    """Runs until a signal (0) or until the worker cannot go on (1). SIGTERM writes what is folded and leaves."""
    set_up_logging()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = build_app(settings, sink or clickhouse_sink(settings))
    worker = Worker(app, loop=loop, override_logging=False, quiet=True, redirect_stdouts=False)
    worker.spinner = None
    ownership = app.gear.ownership
    stopping: list[asyncio.Future[None]] = []
    ownership.on_failure = lambda error: stopping.append(asyncio.ensure_future(worker.stop(), loop=loop))
    log.info("worker %s: %s at %s", settings.worker, settings.topic, ",".join(settings.brokers))
    _tune_gc()
    return _exit_code(worker, app)


def _exit_code(worker: Worker, app: MeterApp) -> int:
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        crashed = end.code not in (0, None)
    except BaseException:
        log.exception("worker crashed")
        return 1
    return 1 if crashed or app.gear.ownership.failure is not None else 0


def leave(code: int) -> None:
    """Ends the process now: a write that hangs in a thread must not keep it alive."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def set_up_logging() -> None:
    """One line a message on stderr; the libraries only where they warn."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("gatemeter").setLevel(logging.INFO)
    for services in ("faust", "mode", "aiokafka", "gatemeter.processors.app", "gatemeter.processors.transport"):
        logging.getLogger(services).setLevel(logging.WARNING)
    for drivers in ("urllib3", "clickhouse_connect"):  # what they warn of, the sink says in one line
        logging.getLogger(drivers).setLevel(logging.ERROR)


def _tune_gc() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
