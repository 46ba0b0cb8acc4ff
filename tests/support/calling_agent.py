"""An agent that calls a provider through the metered transport; a line on its standard input is MODEL [stream].

Says `done MODEL` when a call has ended. SIGTERM ends it in the middle of a call, in order.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx2
import openai

from gatemeter.producers import Emitter, EmitterSettings
from gatemeter.producers.hooks import Identity
from gatemeter.producers.hooks.httpx import MeteredTransport

WHO = Identity(tenant_id="acme", app_id="bot", identity_source="verified_credential")


def main() -> None:
    emitter = Emitter(EmitterSettings.from_environment(spool_folder=Path(os.environ["GATEMETER_SPOOL_FOLDER"])))
    transport = MeteredTransport(emitter=emitter, identify=lambda request: WHO)
    with httpx2.Client(transport=transport) as http:
        client = openai.OpenAI(api_key="k", base_url=os.environ["PROVIDER_URL"] + "/v1", http_client=http)
        print("ready", flush=True)
        for line in sys.stdin:
            model, *how = line.split()
            messages: Any = [{"role": "user", "content": "planted prompt"}]
            with contextlib.suppress(openai.APIError):
                if how:
                    print("began", model, flush=True)
                    for _ in client.chat.completions.create(model=model, messages=messages, stream=True):
                        pass
                else:
                    client.chat.completions.create(model=model, messages=messages)
            print("done", model, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main()
