"""The course of the demo: start, publish, wait until everything is sunk, show, check."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from clickhouse_connect.driver.client import Client
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gatemeter.cli.audit import conservation_table
from gatemeter.cli.demo.metadata import drafts
from gatemeter.cli.demo.people import GATEWAYS
from gatemeter.cli.demo.publishing import DemoFailed, publish, resend
from gatemeter.cli.demo.result import Result, expected, read_result, received
from gatemeter.cli.demo.trace import TraceMissing, data_folder, moved, read_calls
from gatemeter.cli.demo.traffic import Seen, traffic
from gatemeter.cli.embedded.broker import BrokerNotReady
from gatemeter.cli.embedded.children import ChildEnded
from gatemeter.cli.embedded.signals import ended_in_order, until_ctrl_c
from gatemeter.cli.embedded.system import Embedded, Wanted, embedded_system
from gatemeter.cli.report import statement_table
from gatemeter.sinks.clickhouse import connect
from gatemeter.sinks.local.launcher import LaunchFailed
from gatemeter.sinks.reports.conservation import settled_conservation
from gatemeter.sinks.reports.statement import statement

SINK_SECONDS: Final = 150.0
"""How long no event may arrive in ClickHouse before the demo gives up."""

_EXPECTED_FAILURES: Final = (DemoFailed, TraceMissing, ChildEnded, BrokerNotReady, LaunchFailed)
_screen: Final = Console(stderr=True, highlight=False)
_out: Final = Console(highlight=False)


@dataclass(frozen=True)
class _Run:
    result: Result
    problems: list[str]
    events_per_second: float


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON instead of the statement.")] = False,
    seed: Annotated[int, typer.Option(help="Draws everything that is not in the trace.")] = 2023,
    workers: Annotated[int, typer.Option(min=1, max=12, help="Worker processes.")] = 2,
    keep: Annotated[bool, typer.Option("--keep", help="Keep it running afterwards for queries, until Ctrl-C.")] = False,
) -> None:
    """Send the Azure LLM trace (28,185 requests of two real services) through the whole embedded system.

    Starts broker, ClickHouse and workers, publishes through the real emitter, waits until everything is sunk, prints
    the statement and the conservation check, and ends with exit code 0 only where every number is right.

    Example: gatemeter demo --json
    """
    began = time.monotonic()
    try:
        with ended_in_order(), embedded_system(Wanted(workers, GATEWAYS, drafts(data_folder())), _say) as system:
            run = _run(system, seed, began, as_json)
            if keep:
                _say(_where(system))
                until_ctrl_c(system.children)
    except _EXPECTED_FAILURES as error:
        _screen.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from error
    for problem in run.problems:
        _screen.print(f"demo: WRONG: {problem}", markup=False)
    if as_json:
        typer.echo(json.dumps(asdict(run.result)))
    raise typer.Exit(1 if run.problems else 0)


def _say(text: str) -> None:
    _screen.print(f"• {text}", markup=False, soft_wrap=True)


def _run(system: Embedded, seed: int, began: float, as_json: bool) -> _Run:
    trace = read_calls(data_folder() / "azure-llm-2023")
    now_us = time.time_ns() // 1_000
    calls = moved(trace, now_us)
    seen = traffic(calls, seed)
    _say(
        f"Azure LLM inference trace 2023 (CC BY 4.0): {len(calls):,} requests from {_utc(trace[0].started_us)} to"
        f" {_utc(trace[-1].started_us)}, moved so that the last one starts now; tenants, policies and retries are made up"
    )
    client = connect(system.clickhouse)
    try:
        with _bars() as bars:
            published = time.monotonic()
            sent, resent = _publish(system, seen, bars)
            total = sent + resent
            _wait(system, lambda: received(client), total, bars)
            rate = total / (time.monotonic() - published)
        run_seconds = time.monotonic() - began
        result = read_result(client, run_seconds)
        run = _Run(result, result.problems(expected(calls, seen, sent, resent)), rate)
        if not as_json:
            _show(client, run)
        return run
    finally:
        client.close()


def _bars() -> Progress:
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=_screen)


def _publish(system: Embedded, seen: list[Seen], bars: Progress) -> tuple[int, int]:
    task = bars.add_task("published", total=len(seen))
    sent = publish(system, seen, lambda count: bars.advance(task, count))
    return sent, resend(system)


def _wait(system: Embedded, count: Callable[[], int], total: int, bars: Progress) -> None:
    """Until the checkpoints of all partitions account for every event that was delivered."""
    task = bars.add_task("sunk", total=total)
    so_far, moved_at = -1, time.monotonic()
    while so_far < total:
        system.children.check()
        now = count()
        if now != so_far:
            so_far, moved_at = now, time.monotonic()
        elif time.monotonic() - moved_at > SINK_SECONDS:
            raise DemoFailed(f"only {so_far:,} of {total:,} events reached ClickHouse, none for {SINK_SECONDS:.0f} s")
        bars.update(task, completed=so_far)
        time.sleep(0.2 if so_far < total else 0)


def _show(client: Client, run: _Run) -> None:
    _out.print(statement_table(statement(client)))
    _out.print(conservation_table(settled_conservation(client)))
    result = run.result
    _out.print(
        f"{result.requests:,} requests, {result.attempts:,} attempts,"
        f" {result.input_tokens:,} input and {result.output_tokens:,} output tokens of answering attempts;"
        f" {result.duplicates_dropped:,} duplicates dropped, {result.quarantined} quarantined;"
        f" total {result.currency} {result.total}"
    )
    _out.print(f"{result.events:,} events at {run.events_per_second:,.0f} events/s, everything in {result.seconds} s")
    _out.print(
        "Where to query: this run is over and forgotten. `make demo ARGS=--keep` keeps it and says its address;"
        " examples are in README.md"
    )


def _where(system: Embedded) -> str:
    settings = system.clickhouse
    return (
        f"Query ClickHouse until Ctrl-C: curl '{settings.url}/?database=gatemeter' -H 'X-ClickHouse-User: {settings.user}'"
        f" -H 'X-ClickHouse-Key: {settings.password}' -d 'SELECT * FROM chargeback_monthly FORMAT Vertical'"
    )


def _utc(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
