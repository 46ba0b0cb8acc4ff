"""A host that forks with a live emitter, as a pre-forking server does: arguments SPOOL BOOTSTRAP TOPIC.

Parent and two children emit 100 requests each before or after the fork and end by `sys.exit`, one child without close.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from gatemeter.producers import Emitter, EmitterSettings, new_request_id, now_us


def main(spool: str, bootstrap: str, topic: str) -> None:
    emitter = Emitter(
        EmitterSettings(
            bootstrap=bootstrap,
            gateway_id="gw",
            gateway_kind="api_gateway",
            kid="gw-1",
            secret=b"k" * 32,
            topic=topic,
            spool_folder=Path(spool),
            linger_ms=20,
        )
    )

    def emit() -> None:
        for _ in range(100):
            assert emitter.request(request_id=new_request_id(), request_started_at=now_us())

    emit()
    while emitter.counters().spooled:
        time.sleep(0.01)
    emit()
    children = []
    for number in range(2):
        child = os.fork()
        if child == 0:
            emit()
            if number:
                emitter.close(10)
            sys.exit(0)
        children.append(child)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    emit()
    sys.exit(any(ends))


if __name__ == "__main__":
    main(*sys.argv[1:])
