"""`make exceptions-check`: plants exceptions in seeded traffic and prints precision and recall of every kind.

`--json`: one line; `--seeds N`: worlds to try (default 5). Ends with 1 where something was missed or found wrongly.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace

from benchmarks.exceptions_check.scoring import Score, check

from gatemeter.sinks.clickhouse import ClickHouseSettings
from gatemeter.sinks.local.launcher import start
from gatemeter.sinks.migrations import migrate


def main() -> int:
    """0 where all and only what was planted was found."""
    parser = argparse.ArgumentParser(prog="exceptions-check", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--seeds", type=int, default=5, choices=range(1, 101), metavar="1..100")
    asked = parser.parse_args()
    score = Score()
    with start() as server:
        for seed in range(1, asked.seeds + 1):
            place = ClickHouseSettings(server.url, server.user, server.password)
            database = replace(place, database=f"check_{seed}")
            migrate(database)
            check(database, seed, score, lambda text: print(text, file=sys.stderr, flush=True))
    _print(score, as_json=asked.json)
    return 1 if score.wrong or score.missed else 0


def _print(score: Score, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"facts": score.facts, "kinds": score.lines(), "wrong": score.wrong, "missed": score.missed}))
        return
    print(f"{'kind':24}{'planted':>8}{'found':>7}{'right':>7}{'precision':>11}{'recall':>8}")
    for line in score.lines():
        percents = (
            "none" if line[name] is None else f"{line[name]} %" for name in ("precision_percent", "recall_percent")
        )
        precision, recall = percents
        counts = f"{line['planted']:>8}{line['found']:>7}{line['right']:>7}"
        print(f"{line['kind']:24}{counts}{precision:>11}{recall:>8}")
    for text in (
        *(f"found, not planted: {each}" for each in score.wrong),
        *(f"missed: {each}" for each in score.missed),
    ):
        print(text)


if __name__ == "__main__":
    sys.exit(main())
