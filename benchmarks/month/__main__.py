"""`make bench-month`: reconciliation and statements of a month, sealed and closed; time, and memory of each process.

`--rows 1000000,10000000`; `--repeat N` (medians); `--json`: one line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.month.made import PERIOD, PROVIDER, bill, card, close, fill, seal
from benchmarks.reconcile_check.world import publish

from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from gatemeter.sinks.local.launcher import LocalClickHouse, start
from gatemeter.sinks.migrations import migrate

MAX_MEMORY = 2_000_000_000
"""Of each query of ClickHouse, bytes; more is an error of the query."""

_PEAK = "VmHWM:"


def main(words: Sequence[str]) -> int:
    """0. Words that mean nothing here end the process with 2."""
    parser = argparse.ArgumentParser(prog="bench-month", description="What the end of a month costs.")
    parser.add_argument("--rows", type=_sizes, default=[1_000_000, 10_000_000], help="facts, 1000 to 100000000 each")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the median counts (3)")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    given = parser.parse_args(words)
    figures = [_measured(rows, given.repeat) for rows in given.rows]
    if given.json:
        print(json.dumps(figures))
        return 0
    for each in figures:
        print(", ".join(f"{name} {value}" for name, value in each.items()))
    return 0


def _sizes(text: str) -> list[int]:
    sizes = [int(size) for size in text.split(",") if size.isdecimal()]
    if len(sizes) != len(text.split(",")) or not all(1_000 <= size <= 100_000_000 for size in sizes):
        raise argparse.ArgumentTypeError(f"must be numbers of 1000 to 100000000, got {text}")
    return sizes


def _measured(rows: int, repeat: int) -> dict[str, Any]:
    with start() as server:
        where = ClickHouseSettings(server.url, server.user, server.password)
        migrate(where)
        with closing(connect(where)) as client:
            record = card()
            publish(client, "RateCard", record["card_id"], record, 1)
            print(f"{rows:,} facts: filling", file=sys.stderr, flush=True)
            fill(client, rows, record["content_hash"])
            bill(client)
            seal(client)
            while client.command("SELECT count() FROM system.merges"):  # of what was written just now
                time.sleep(1)
        figures: dict[str, Any] = {"facts": rows}
        month = ("--period", PERIOD)
        statement = ("statement", "--tenant", "tenant-1", *month, "--format", "html", "--output", "/dev/null")
        figures |= _runs(server, where, "reconcile", ("reconcile", "--provider", PROVIDER, *month), repeat)
        figures |= _runs(server, where, "sealed_statement", statement, repeat)
        with closing(connect(where)) as client:
            close(client)
        figures |= _runs(server, where, "statement", statement, repeat)
    return figures


def _runs(
    server: LocalClickHouse, where: ClickHouseSettings, name: str, words: Sequence[str], repeat: int
) -> dict[str, Any]:
    seconds, server_peaks, command_peaks = [], [], []
    for _ in range(repeat):
        Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the peak counts anew from here
        began = time.monotonic()
        command_peaks.append(_command(where, words))
        seconds.append(time.monotonic() - began)
        server_peaks.append(_peak_mib(server.process.pid))
    return {
        f"{name}_s": round(median(seconds), 1),
        f"{name}_server_mib": max(server_peaks),
        f"{name}_command_mib": max(command_peaks),
    }


_RUN = """
import resource, sys
from gatemeter.cli.main import app
try:
    app(args=sys.argv[1:], prog_name="gatemeter")
except SystemExit as ended:
    if ended.code:
        raise
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
"""


def _command(where: ClickHouseSettings, words: Sequence[str]) -> int:
    """Runs a command as its user does; the most memory that it had, MiB."""
    options = ["--clickhouse-url", where.url, "--clickhouse-user", where.user, "--clickhouse-database", where.database]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *words, *options],
        env={"GATEMETER_CLICKHOUSE_PASSWORD": where.password, "PATH": "/usr/bin:/bin", "HOME": "/tmp"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"gatemeter {words[0]} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return int(done.stderr.split()[-1])


def _peak_mib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith(_PEAK):
            return int(line.split()[1]) // 1024
    raise RuntimeError(f"/proc/{pid}/status has no {_PEAK}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
