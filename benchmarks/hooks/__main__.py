"""`make bench-hooks`: what hooks add to a call.

`--json`: one line; `--quick`: a short run; `--hooks asgi,envoy`: these alone; `--minutes N`: so long without Kafka.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from benchmarks.hooks.run import HOOKS, QUICK, run

MAX_MINUTES = 60


def _hooks(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= set(HOOKS):
        raise argparse.ArgumentTypeError(f"must be some of {','.join(HOOKS)}, got {text}")
    return names


def _minutes(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_MINUTES:
        raise argparse.ArgumentTypeError(f"must be 0 to {MAX_MINUTES}, got {text}")
    return int(text)


def main(words: Sequence[str]) -> int:
    """0, or 1 where an event was lost. Words that mean nothing here end the process with 2."""
    parser = argparse.ArgumentParser(prog="bench-hooks", description="Measures what hooks add to a call.")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--quick", action="store_true", help="a short run, whose figures mean little")
    parser.add_argument("--hooks", type=_hooks, default=list(HOOKS), help=f"some of {','.join(HOOKS)}")
    parser.add_argument("--minutes", type=_minutes, default=1, help="how long Kafka is away (1); 0: not at all")
    given = parser.parse_args(words)
    size, outage_s = (QUICK, 2.0) if given.quick else (None, 60.0 * given.minutes)
    try:
        with redirect_stdout(sys.stderr):  # where the logs of proxies go
            figures = run(given.hooks, outage_s, lambda text: print(text, flush=True), size)
    except RuntimeError as error:
        print(f"bench-hooks: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps(figures))
        return 0
    for place, values in figures.items():
        for name, value in values.items():
            print(f"{place:8} {name:22} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
