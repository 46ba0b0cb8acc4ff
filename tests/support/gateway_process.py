"""A gateway in a process of its own, to be killed: `python gateway_process.py SETTINGS RATE`.

SETTINGS is JSON: the fields of `EmitterSettings`, the secret in hex. Prints its epoch, then the id of each RESPONSE
that was accepted; ends in order after the first line on its standard input.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from gatemeter.producers import Emitter, EmitterSettings, new_request_id, now_us


def main(text: str, rate: float) -> None:
    values = json.loads(text)
    for name in ("spool_folder", "attestation_key_file"):
        values[name] = Path(values[name]) if values.get(name) else None
    emitter = Emitter(EmitterSettings(**{**values, "secret": bytes.fromhex(values["secret"])}))
    print("epoch", emitter.epoch, flush=True)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
    while not ended.is_set():
        request_id = new_request_id()
        if emitter.response(request_id=request_id, request_started_at=now_us(), status="ok", tenant_id="acme"):
            sys.stdout.write(request_id + "\n")
            sys.stdout.flush()
        time.sleep(1 / rate)
    emitter.close(30)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
