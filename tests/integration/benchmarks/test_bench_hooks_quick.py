"""A short run of the hooks' bench: it gives all figures, and fails by itself where an event is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
QUICK = ("asgi", "httpx", "envoy")
"""Two LiteLLM proxies take a minute to start; the conformance suite starts them."""
FIGURES = {
    *("request_p50_us", "request_p99_us", "bare_request_p50_us", "bare_request_p99_us", "busy_call_p50_us"),
    *("chunk_us", "first_byte_us", "cpu_us", "bare_cpu_us"),
}


def test_every_hook_is_measured_with_and_without_and_nothing_is_lost() -> None:
    command = [sys.executable, "-m", "benchmarks.hooks", "--quick", "--json", "--hooks", ",".join(QUICK)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    for hook in QUICK:
        assert set(figures[hook]) - {"tail_cpu_us"} == FIGURES
        assert figures[hook]["bare_request_p50_us"] > 0 and figures[hook]["bare_cpu_us"] > 0
    assert figures["outage"]["lost"] == 0
    assert figures["outage"]["calls"] > 0 and figures["outage"]["spool_mib"] > 0


def test_a_word_that_means_nothing_is_an_error() -> None:
    for words, said in (
        (["--minuets"], "unrecognized arguments: --minuets"),
        (["--minutes", "61"], "argument --minutes: must be 0 to 60, got 61"),
        (["--hooks", "asgi,kong"], "argument --hooks: must be some of asgi,httpx,envoy,litellm, got asgi,kong"),
    ):
        command = [sys.executable, "-m", "benchmarks.hooks", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
