"""From the emitter's call to a row that can be queried: the real emitter, worker and ClickHouse at a steady rate."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.measuring import WORKER, Running, wait_until_written
from benchmarks.world import PARTITIONS, Topic, World, now_us

from gatemeter.producers import Emitter, EmitterSettings, RequestEvent, ResponseEvent, new_request_id
from gatemeter.schemas.signing import load_secrets
from gatemeter.sinks.clickhouse import connect

EVENTS_PER_S: Final = 5_000
STEP_SECONDS: Final = 0.01

# A row can be queried once its insert returned, which is before the checkpoint that covers it says when it was written.
_DELAYS: Final = (
    "SELECT quantilesExact(0.5, 0.99)(toUnixTimestamp64Micro(c.written_at) - toUnixTimestamp64Micro(f.occurred_at))"
    " FROM (SELECT topic, partition, offset, occurred_at FROM usage_facts FINAL WHERE occurred_at >"
    " fromUnixTimestamp64Micro({warm:Int64}, 'UTC')) AS f"
    " ASOF JOIN ingest_batches AS c ON f.topic = c.topic AND f.partition = c.partition AND f.offset < c.next_offset"
)


def measure_delay(world: World, seconds: float) -> dict[str, float]:
    """p50 and p99 in milliseconds; the first two seconds are warm-up."""
    name = "delay"
    world.create(name)
    database = world.database()
    client = connect(database)
    with Running(world, name, database, WORKER) as running:
        ends = dict(enumerate(world.broker.end_offsets(name, PARTITIONS)))
        wait_until_written(client, Topic(name, 0, 0, ends), running)
        warm_us = now_us() + 2_000_000
        _emit(world, name, seconds + 2)
        ends = dict(enumerate(world.broker.end_offsets(name, PARTITIONS)))
        wait_until_written(client, Topic(name, 0, 0, ends), running)
    p50_us, p99_us = client.query(_DELAYS, {"warm": warm_us}).result_rows[0][0]
    client.close()
    world.drop(database)
    return {"delay_p50_ms": round(p50_us / 1000, 1), "delay_p99_ms": round(p99_us / 1000, 1)}


def _emit(world: World, topic: str, seconds: float) -> None:
    gateway, kid = next(iter(world.kids.items()))
    emitter = Emitter(
        EmitterSettings(
            bootstrap=world.broker.bootstrap,
            gateway_id=gateway,
            gateway_kind="inference_proxy",
            kid=kid,
            secret=load_secrets(world.folder / "secrets.json")[kid],
            topic=topic,
            spool_folder=world.folder / "spool",
        )
    )
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        while sent < passed * EVENTS_PER_S:
            _call(emitter)
            sent += 2
        time.sleep(STEP_SECONDS)
    report = emitter.close(30)
    if report.undelivered or report.counters.dropped or report.counters.invalid:
        raise RuntimeError(f"the emitter did not deliver everything: {report}")


def _call(emitter: Emitter) -> None:
    who = {"request_id": new_request_id(), "request_started_at": now_us(), "tenant_id": "acme", "app_id": "quote-bot"}
    what = {"identity_source": "verified_credential", "provider": "openai", "model": "gpt-4.1"}
    usage = {"usage_source": "reported", "input_text_uncached": 900, "output_text_visible": 120}
    emitter.request(RequestEvent(**who, **what))  # type: ignore[arg-type]
    emitter.response(ResponseEvent(**who, **what, **usage, status="ok"))  # type: ignore[arg-type]
