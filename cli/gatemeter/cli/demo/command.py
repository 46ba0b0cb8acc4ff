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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gatemeter.cli.demo.metadata import drafts
from gatemeter.cli.demo.people import GATEWAYS
from gatemeter.cli.demo.publishing import DemoFailed, publish, resend
from gatemeter.cli.demo.result import Result, expected, partitions_ready, read_result, received
from gatemeter.cli.demo.showing import conservation_line, sealing_line
from gatemeter.cli.demo.trace import TraceMissing, data_folder, moved, read_calls
from gatemeter.cli.demo.traffic import Seen, traffic
from gatemeter.cli.embedded.broker import BrokerNotReady
from gatemeter.cli.embedded.children import ChildEnded
from gatemeter.cli.embedded.signals import ended_in_order, until_ctrl_c
from gatemeter.cli.embedded.system import Embedded, Wanted, embedded_system
from gatemeter.cli.screen import screen
from gatemeter.cli.statement_tables import statement_tables
from gatemeter.sinks.clickhouse import connect
from gatemeter.sinks.local.launcher import LaunchFailed
from gatemeter.sinks.reports.conservation import Conservation, settled_conservation
from gatemeter.sinks.reports.statement import statement

STILL_SECONDS: Final = 90.0
"""How long nothing may move before the demo gives up."""

_FORGOTTEN: Final = (
    "Where to query: this run is forgotten now; make demo ARGS=--keep keeps ClickHouse and says its address"
)
_EXPECTED_FAILURES: Final = (DemoFailed, TraceMissing, ChildEnded, BrokerNotReady, LaunchFailed)
_screen: Final = screen(stderr=True)
_out: Final = screen()


@dataclass(frozen=True)
class _Run:
    result: Result
    problems: list[str]


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
            _say(_where(system) if keep else _FORGOTTEN)
            if keep:
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
        f" {_utc(trace[-1].started_us)}, moved so that the last one starts now; tenants, policies, retries are made up"
    )
    client = connect(system.clickhouse)
    try:
        with _bars() as bars:
            _wait(system, "ready", lambda: partitions_ready(client), system.partitions, bars)
            published = time.monotonic()
            sent, resent = _publish(system, seen, bars)
            _wait(system, "sunk", lambda: received(client), sent + resent, bars)
            rate = (sent + resent) / (time.monotonic() - published)
        check = settled_conservation(client)
        result = read_result(client, check, time.monotonic() - began)
        late = check.totals()["responses_late"]
        if not as_json:
            _show(client, check, result, rate, system.partitions)
        return _Run(result, result.problems(expected(calls, seen, sent, resent), late))
    finally:
        client.close()


def _bars() -> Progress:
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=_screen)


def _publish(system: Embedded, seen: list[Seen], bars: Progress) -> tuple[int, int]:
    task = bars.add_task("published", total=len(seen))
    sent = publish(system, seen, lambda count: bars.advance(task, count))
    return sent, resend(system)


def _wait(system: Embedded, what: str, count: Callable[[], int], total: int, bars: Progress) -> None:
    """Until `count` reaches `total`; gives up where it stands still."""
    task = bars.add_task(what, total=total)
    so_far, moved_at = -1, time.monotonic()
    while so_far < total:
        system.children.check()
        now = count()
        if now != so_far:
            so_far, moved_at = now, time.monotonic()
        elif time.monotonic() - moved_at > STILL_SECONDS:
            raise DemoFailed(f"{what}: {so_far:,} of {total:,}, and nothing more for {STILL_SECONDS:.0f} s")
        bars.update(task, completed=so_far)
        time.sleep(0.2 if so_far < total else 0)


def _show(client: Client, check: Conservation, result: Result, events_per_second: float, partitions: int) -> None:
    for part in (*statement_tables(statement(client)), conservation_line(check), sealing_line(client, partitions)):
        _out.print(part)
    _out.print(
        f"\n{result.requests:,} requests, {result.attempts:,} attempts; answering attempts read"
        f" {result.input_tokens:,} and wrote {result.output_tokens:,} tokens."
        f"\n{result.duplicates_dropped:,} duplicates dropped, {result.quarantined} events quarantined,"
        f" total {result.total} {result.currency}."
        f"\n{result.events:,} events at {events_per_second:,.0f} events/s from the emitter's call to the queryable row,"
        f" {result.seconds} s in all."
    )


def _where(system: Embedded) -> str:
    at = system.clickhouse
    shell = system.shell_file(*next(iter(GATEWAYS.items())))
    return (
        f"Until Ctrl-C, in another shell: . {shell} and then gatemeter report, explain, audit and so on; or SQL:"
        f" curl '{at.url}/?database=gatemeter' -H 'X-ClickHouse-User: {at.user}'"
        f" -H 'X-ClickHouse-Key: {at.password}' -d 'SELECT * FROM chargeback_monthly FORMAT Vertical'"
    )


def _utc(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
