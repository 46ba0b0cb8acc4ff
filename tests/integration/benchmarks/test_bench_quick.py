"""A short run of the bench: it gives all figures, and fails by itself where a contender's facts are not ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_contender_writes_the_same_facts_and_all_figures_are_there() -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["facts"] == "identical"
    for name in ("pipeline_us_per_event", "pipeline_events_per_s", "limit_us_per_event"):
        assert set(figures[name]) == {"1", "10", "50"}
        assert all(value > 0 for value in figures[name].values())
    for rival in ("plain_faust", "faust_tables", "confluent_loop"):
        assert figures[f"{rival}_us_per_event"] > 0
    assert 0 < figures["emitter_p50_us"] <= figures["emitter_p99_us"]
    assert 0 < figures["delay_p50_ms"] <= figures["delay_p99_ms"]
