"""`make reconcile-check`: planted differences between facts and exports, and whether each is found with cause and
amount.

`--json`: one line; `--calls N`: calls of the trace; `--seed N`. Exit code 1 where one was not found, or something
else was.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reconcile_check.run import Judged, check

from gatemeter.sinks.clickhouse import ClickHouseSettings
from gatemeter.sinks.local.launcher import start
from gatemeter.sinks.migrations import migrate
from gatemeter.sinks.reports.money import text_of

LISTED = 20


def main(words: Sequence[str]) -> int:
    """0 where everything planted was found, with its cause and amount, and nothing else was."""
    parser = argparse.ArgumentParser(prog="reconcile-check", description="Planted differences, and what is found.")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--calls", type=int, default=20_000, help="calls of the trace, 5000 to 28185 (20000)")
    parser.add_argument("--seed", type=int, default=7, help="of the hours and tokens (7)")
    given = parser.parse_args(words)
    if not 5_000 <= given.calls <= 28_185:
        parser.error(f"--calls must be 5000 to 28185, got {given.calls}")
    with tempfile.TemporaryDirectory(prefix="gatemeter-reconcile-") as folder, start() as server:
        where = ClickHouseSettings(server.url, server.user, server.password)
        migrate(where)
        judged = check(where, Path(folder), given.seed, given.calls, lambda text: print(text, file=sys.stderr))
    if given.json:
        print(json.dumps(judged.as_json()))
    else:
        _print(judged)
    figures = judged.as_json()
    return int(figures["found"] != figures["planted"] or figures["wrong_class"] + figures["false_reports"] > 0)


def _print(judged: Judged) -> None:
    print(f"{'planted':24} {'places':>6} {'amount, USD':>24}  found")
    for verdict in judged.verdicts:
        said = "yes" if verdict.found else "with another cause" if verdict.wrong_class else "NO"
        print(f"{verdict.kind:24} {verdict.places:>6} {text_of(verdict.amount):>24}  {said}")
    print(", ".join(f"{name} {value}" for name, value in judged.as_json().items()))
    for place, amount in judged.false_reports[:LISTED]:
        print(f"  not planted: {place} {text_of(amount)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
