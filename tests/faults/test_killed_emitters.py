"""An emitter that is killed before or after any step of its spool: nothing is lost, no number means two events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "support" / "killed_emitter.py"


def whole(result: dict[str, Any]) -> None:
    """Everything that was accepted arrived, under numbers without holes; ends are told once they are true."""
    events = result["events"]
    arrived = {request_id for *_, request_id, _ in events}
    assert set(result["accepted"]) <= arrived, "an accepted event was lost"
    meaning: dict[tuple[str, int, int], str] = {}
    numbers: dict[tuple[str, int], set[int]] = {}
    places: dict[str, set[tuple[str, int, int]]] = {}
    for epoch, partition, sequence, request_id, content in events:
        place = (epoch, partition, sequence)
        assert meaning.setdefault(place, content) == content, "a number stands for two events"
        numbers.setdefault((epoch, partition), set()).add(sequence)
        places.setdefault(request_id, set()).add(place)
    assert all(len(found) == 1 for found in places.values()), "an event has two numbers"
    for found in numbers.values():
        assert found == set(range(len(found))), "a hole in the numbers"
    closed = {(epoch, partition): sequence for epoch, partition, sequence in result["closed"]}
    for place, sequence in closed.items():
        assert sequence == len(numbers.get(place, ())), "an end that is not the end"
    for epoch in result["ended"]:
        assert (epoch, 0) in closed and (epoch, 1) in closed, "a closed epoch was never said to be"
    assert result["left"] == []


def test_an_emitter_killed_at_any_step_loses_nothing_that_it_accepted(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    children = [
        subprocess.Popen([*command, str(first), "2"], env=environment, stdout=subprocess.PIPE, text=True)
        for first in (0, 1)
    ]
    steps = []
    for child in children:
        output, _ = child.communicate()
        assert child.returncode == 0
        for line in output.splitlines():
            result = json.loads(line)
            whole(result)
            steps.append(result["step"])
    assert len(steps) > 60, "the steps were hardly counted"
