"""`make chaos`: breaks the pipeline in every way we know, then counts. Exit code 1: something was lost or doubled.

The long form (default) takes 20 minutes, at 2,000 events a second and with the fold's own times; `--minutes 5` is the
form of CI. `--seed` draws the same faults in the same order again. `--json` prints one line at the end.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from chaos.recovery import EVENTS_PER_S, HORIZON_S, measure
from chaos.run import NotRecovered, Size, run

SHORT_MINUTES = 15.0
"""Below, the fold's horizon and orphan timer are scaled down."""


def _arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--minutes", type=_from_to(2.0, 1_440.0), default=20.0, help="2 to 1440 (default 20)")
    parser.add_argument(
        "--events", type=_whole, default=0, help="10000 or more (default: 1,000,000, or 2,000 a second)"
    )
    parser.add_argument("--seed", type=int, default=None, help="default: drawn, and printed")
    parser.add_argument("--recovery", action="store_true", help="only measure the recovery of a killed worker")
    parser.add_argument("--real-time", action="store_true", help="with --recovery: let the 15 minutes really pass")
    parser.add_argument("--logs", type=Path, default=None, help="folder for the logs of workers and gateways")
    parser.add_argument("--json", action="store_true", help="one line of JSON at the end of standard output")
    return parser.parse_args(argv)


def _from_to(low: float, high: float) -> Any:
    def read(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be {low:g} to {high:g}, got {text}")
        return value

    return read


def _whole(text: str) -> int:
    value = int(text)
    if value < 10_000:
        raise argparse.ArgumentTypeError(f"must be 10000 or more, got {text}")
    return value


def size_of(options: argparse.Namespace) -> Size:
    """Defaults filled in."""
    is_short = options.minutes < SHORT_MINUTES
    events = options.events or max(1_000_000, int(options.minutes * 60 * 2_000))
    seed = options.seed if options.seed is not None else time.time_ns() % 1_000_000
    return Size(options.minutes * 60, events, seed, 120 if is_short else 900, 60 if is_short else 600, options.logs)


def play(options: argparse.Namespace) -> dict[str, Any]:
    """What was asked for."""
    size = size_of(options)
    if not options.recovery:
        return run(size, say)
    events = options.events or HORIZON_S * EVENTS_PER_S
    return measure(say, real_time=options.real_time, events=events, seed=size.seed, logs=options.logs)


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """0: nothing was lost or doubled, every total is right and the audit is clean. 1: not so. 130: Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = _arguments()
    try:
        report = play(options)
    except KeyboardInterrupt:
        return 130
    except NotRecovered as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name:28} {value}")
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
