"""Calls while Kafka cannot be reached: how much memory they take, and whether one is lost."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.hooks.places import asgi, spooling_emitter

from gatemeter.producers.segments import FileSegment, read_header, read_records

CALLS_PER_S: Final = 500
_NOWHERE: Final = "127.0.0.1:9"
_WARM_UP_S: Final = 2.0


def outage(seconds: float) -> dict[str, float]:
    """Calls made, MiB of memory that they added at most after the warm-up, MiB of spool, and events lost.

    Raises `RuntimeError` where the spool does not hold every event.
    """
    folder = Path(tempfile.mkdtemp(prefix="gatemeter-outage-"))
    emitter = spooling_emitter(_NOWHERE, folder)
    try:
        call = asgi(emitter)
        calls, before, most = 0, 0, 0
        began = time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds + _WARM_UP_S:
            call(False)
            calls += 1
            if calls % CALLS_PER_S == 0:
                most = max(most, _resident_bytes())
                before = before if passed > _WARM_UP_S and before else _resident_bytes()
            time.sleep(max(0.0, began + calls / CALLS_PER_S - time.perf_counter()))
        spooled, size = _spooled(folder)
        lost = 2 * calls - spooled
        counted = emitter.counters()
    finally:
        emitter.close(0)
        shutil.rmtree(folder, ignore_errors=True)
    if lost or counted.dropped or counted.invalid:
        raise RuntimeError(f"events were lost: {lost} of {2 * calls}, {counted}")
    mib = 1 << 20
    return {
        "seconds": round(seconds, 1),
        "calls": calls,
        "memory_mib": round(max(0, most - before) / mib, 1),
        "spool_mib": round(size / mib, 1),
        "lost": lost,
    }


def _resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def _spooled(folder: Path) -> tuple[int, int]:
    """Events and bytes in the spool."""
    events = size = 0
    for path in folder.rglob("*.seg"):
        segment = FileSegment.open(path, 0)
        found = read_header(segment)
        events += 0 if found is None else sum(1 for _ in read_records(segment, found[1]))
        size += segment.size
        segment.close()
    return events, size
