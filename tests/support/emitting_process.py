"""An emitter in a process of its own: `python emitting_process.py SPOOL BOOTSTRAP TOPIC RATE [LIMIT]`.

Emits requests, printing each accepted id on a line of its own, until it is killed; SIGTERM closes in order and prints
the report. `close` alone: emits nothing and closes.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from gatemeter.producers import Emitter, EmitterSettings, new_request_id, now_us


class Stop(BaseException):
    """SIGTERM."""


def stop(number: int, frame: FrameType | None) -> None:
    raise Stop


def main(spool: str, bootstrap: str, topic: str, rate: int, limit: int = 1 << 60) -> None:
    emitter = Emitter(
        EmitterSettings(
            bootstrap=bootstrap,
            gateway_id="gw",
            gateway_kind="inference_proxy",
            kid="gw-1",
            secret=b"k" * 32,
            topic=topic,
            spool_folder=Path(spool),
            linger_ms=20,
            segment_bytes=32 * 1024,
        )
    )
    print("epoch", emitter.epoch, flush=True)
    signal.signal(signal.SIGTERM, stop)
    try:
        for _ in range(limit):
            request_id = new_request_id()
            if emitter.request(request_id=request_id, request_started_at=now_us(), tenant_id="acme"):
                sys.stdout.write(request_id + "\n")
                sys.stdout.flush()
            time.sleep(1 / rate)
    except Stop:
        sys.stdout.write("\n")
    report = emitter.close(20)
    print("report", json.dumps({"undelivered": report.undelivered, "counters": report.counters._asdict()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], *map(int, sys.argv[4:]))
