"""`make bench-hooks`: what hooks add to a call. `--json`: one line; `--quick`: a short run; `--minutes N`: outage."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from benchmarks.hooks.run import QUICK, Size, run


def main(words: list[str]) -> int:
    """0, or 1 where an event was lost, 2 for words that mean nothing here."""
    size, as_json = Size(), False
    given = iter(words)
    for word in given:
        if word == "--json":
            as_json = True
        elif word == "--quick":
            size = QUICK
        elif word == "--minutes" and (number := next(given, "")).isdecimal() and 1 <= int(number) <= 60:
            size = replace(size, outage_s=60.0 * int(number))
        else:
            print(f"bench-hooks: must be --json, --quick and --minutes 1 to 60, got {word}", file=sys.stderr)
            return 2
    try:
        figures = run(size, lambda text: print(text, file=sys.stderr, flush=True))
    except RuntimeError as error:
        print(f"bench-hooks: {error}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps(figures))
        return 0
    for place, values in figures.items():
        for name, value in values.items():
            print(f"{place:8} {name:22} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
