"""What one call of the emitter costs its host: p50 and p99 at a steady rate, spool on, against Apache Kafka.

    .venv/bin/python benchmarks/emitter_call.py            prints one JSON line

The calls are REQUEST and RESPONSE in turn, from one thread that sleeps between them, as a request handler would.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from gatemeter.producers import Emitter, EmitterSettings, RequestEvent, ResponseEvent, new_request_id, now_us

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

WARM_UP_CALLS = 2000


def _events() -> tuple[RequestEvent, ResponseEvent]:
    who = {
        "request_id": new_request_id(),
        "request_started_at": now_us(),
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "tenant_id": "acme",
        "app_id": "assistant",
        "workload_id": "spiffe://acme/ns/prod/sa/assistant",
        "credential_fingerprint": "9f86d081884c7d659a2feaa0c55ad015",
        "identity_source": "verified_credential",
        "provider": "openai",
        "model": "gpt-4o",
        "operation": "chat",
        "stream": True,
        "region": "eu-west-1",
    }
    response = ResponseEvent(
        **who,  # type: ignore[arg-type]
        served_model="gpt-4o-2024-08-06",
        status="ok",
        delivered=True,
        http_status=200,
        finish_reason="stop",
        latency_us=1_840_000,
        ttft_us=310_000,
        usage_source="reported",
        input_text_uncached=1374,
        input_text_cache_read=1024,
        output_text_visible=244,
    )
    return RequestEvent(**who), response  # type: ignore[arg-type]


def _calls(emitter: Emitter, calls_per_s: int, calls: int) -> list[int]:
    taken_ns = []
    began = time.perf_counter()
    for number in range(calls // 2):
        request, response = _events()
        for offset, (call, event) in enumerate(((emitter.request, request), (emitter.response, response))):
            wait = began + (2 * number + offset) / calls_per_s - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            start = time.perf_counter_ns()
            call(event)  # type: ignore[operator]
            taken_ns.append(time.perf_counter_ns() - start)
    return taken_ns


def _run(bootstrap: str, calls_per_s: int, seconds: float) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="gatemeter-spool-"))
    emitter = Emitter(
        EmitterSettings(
            bootstrap=bootstrap,
            gateway_id="bench",
            gateway_kind="inference_proxy",
            kid="bench-1",
            secret=b"s" * 32,
            topic="emitter_call",
            spool_folder=folder,
        )
    )
    try:
        _calls(emitter, calls_per_s, WARM_UP_CALLS)
        taken_ns = sorted(_calls(emitter, calls_per_s, int(calls_per_s * seconds)))
        report = emitter.close(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if report.undelivered or report.counters.dropped or report.counters.invalid:
        raise RuntimeError(f"the emitter did not deliver everything: {report}")
    return {
        "emitter_p50_us": round(taken_ns[len(taken_ns) // 2] / 1000, 1),
        "emitter_p99_us": round(taken_ns[len(taken_ns) * 99 // 100] / 1000, 1),
        "emitter_calls_per_s": calls_per_s,
    }


def measure(calls_per_s: int = 2000, seconds: float = 10, bootstrap: str | None = None) -> dict[str, float]:
    """p50 and p99 of a call in microseconds. Starts an Apache Kafka of its own where `bootstrap` is not given; the
    topic `emitter_call` is made with 12 partitions there and must exist elsewhere."""
    if bootstrap is not None:
        return _run(bootstrap, calls_per_s, seconds)
    from support.kafka import KafkaBroker

    with KafkaBroker(measured=True) as broker:
        broker.create_topic("emitter_call", partitions=12)
        return _run(broker.bootstrap, calls_per_s, seconds)


if __name__ == "__main__":
    print(json.dumps(measure()))
