"""How long a killed worker's successor takes to its first new row, with a full horizon to fold again.

The horizon is 15 minutes at 2,000 events a second. In the long form these minutes really pass; in the short form the
same 1,800,000 events are said as fast as the machine takes them, so that all of them are within the horizon.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any, Final

from chaos.run import Say, reached, until
from chaos.stage import PARTITIONS, GatewayProcess, Stage, stage

HORIZON_S: Final = 900
EVENTS_PER_S: Final = 2_000
FASTEST_PER_S: Final = 40_000
LOOK_SECONDS: Final = 0.1
LIMIT_SECONDS: Final = 3_600


def measure(say: Say, *, real_time: bool, events: int, seed: int, logs: Path | None) -> dict[str, Any]:
    """One worker owns everything, is killed while events come in, and starts again."""
    with stage(HORIZON_S, 600, logs) as place:
        worker = place.start_worker()
        until(place, lambda: worker.opened, "the worker's start")
        say(f"Filling the horizon with {events:,} events{' in real time' if real_time else ''}")
        _speak(place, EVENTS_PER_S if real_time else FASTEST_PER_S, seed, lambda said: said >= events)
        ends = place.ends()
        until(place, lambda: reached(place, ends), "the end of the log", LIMIT_SECONDS)
        say(f"Killing the worker while {EVENTS_PER_S:,} events a second come in")
        gateways = GatewayProcess(place, events_per_s=EVENTS_PER_S, seed=seed + 1, lose_until_s=0)
        try:
            time.sleep(10)
            return _kill_and_wait(place, gateways) | {"horizon_s": HORIZON_S, "real_time": real_time, "seed": seed}
        finally:
            gateways.kill()


def _speak(place: Stage, events_per_s: int, seed: int, enough: Any) -> None:
    gateways = GatewayProcess(place, events_per_s=events_per_s, seed=seed, lose_until_s=0)
    try:
        until(place, lambda: enough(gateways.figures["events"]), "events to fill the horizon", LIMIT_SECONDS)
        gateways.finish()
    finally:
        gateways.kill()


def _kill_and_wait(place: Stage, gateways: GatewayProcess) -> dict[str, Any]:
    victim = place.workers[0]
    victim.signal(signal.SIGKILL)
    place.remove(victim)
    before = place.checkpoints()
    replay = place.client.query(_REPLAYED).result_rows[0]
    began = time.monotonic()
    successor = place.start_worker()
    until(place, lambda: successor.opened, "the successor's start")
    opened_s = time.monotonic() - began
    first_s = 0.0
    while True:
        now = place.checkpoints()
        moved = [number for number in range(PARTITIONS) if now.get(number, 0) > before.get(number, 0)]
        passed = time.monotonic() - began
        if moved and not first_s:
            first_s = passed
        if len(moved) == PARTITIONS:
            break
        if passed > LIMIT_SECONDS or not successor.process.running:
            raise RuntimeError(f"the successor did not recover:\n{successor.process.log[-3000:]}")
        time.sleep(LOOK_SECONDS)
    return {
        "replayed_records": int(replay[0]),
        "replayed_events_about": int(replay[1]),
        "opened_s": round(opened_s, 1),
        "first_row_s": round(first_s, 1),
        "every_partition_s": round(passed, 1),
        "ok": first_s < 30,
    }


_REPLAYED: Final = """
    SELECT sum(next_offset - replay_from), sum((next_offset - replay_from) * events_received / records)
    FROM (SELECT * FROM ingest_batches ORDER BY next_offset DESC LIMIT 1 BY partition)
"""
"""Records that successors fold again, and about how many events they hold."""
