"""`gatemeter emit`: plays a recorded trace through the real emitter."""

from __future__ import annotations

import csv
import itertools
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from gatemeter.producers.emitter import CloseReport, Emitter
from gatemeter.producers.events import Event, now_us
from gatemeter.producers.settings import EmitterSettings, SettingsError, read_secret
from gatemeter.producers.traces import TraceError, csv_events, read_csv, read_jsonl, replay, shifted

_BACKLOG_EVENTS = 20_000
"""A replay waits where more is spooled, so that the spool's limit never drops events of a trace."""


class _Stopped(BaseException):
    """SIGTERM or Ctrl-C: close in order and report. Like KeyboardInterrupt, nothing on the way may catch it."""


def emit(
    trace: Annotated[
        Path, typer.Argument(help="CSV (TIMESTAMP,ContextTokens,GeneratedTokens) or JSONL (one event a line).")
    ],
    gateway: Annotated[str, typer.Option(envvar="GATEMETER_GATEWAY_ID", help="Gateway id, as registered.")],
    kid: Annotated[str, typer.Option(envvar="GATEMETER_KID", help="Key id of the gateway.")],
    secrets: Annotated[Path, typer.Option(envvar="GATEMETER_SECRETS_FILE", help="Secrets file that holds the key.")],
    spool: Annotated[Path | None, typer.Option(help="Spool folder; without it events wait in memory only.")] = None,
    attestation_key: Annotated[
        Path | None,
        typer.Option(
            "--attestation-key",
            envvar="GATEMETER_ATTESTATION_KEY_FILE",
            help="The gateway's private key: heartbeats attest what is sent.",
        ),
    ] = None,
    bootstrap: Annotated[str, typer.Option(envvar="GATEMETER_BOOTSTRAP", help="Kafka brokers.")] = "127.0.0.1:9092",
    topic: Annotated[str, typer.Option(help="Topic of the events.")] = "gatemeter.events",
    kind: Annotated[str, typer.Option(envvar="GATEMETER_GATEWAY_KIND", help="Its kind.")] = "inference_proxy",
    speed: Annotated[str, typer.Option(help="real, xN (N times real time) or max (flat out).")] = "real",
    keep_times: Annotated[bool, typer.Option(help="Keep the trace's times instead of moving its end to now.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    tenant: Annotated[str | None, typer.Option(help="CSV: tenant of all requests.")] = None,
    app: Annotated[str | None, typer.Option(help="CSV: application of all requests.")] = None,
    provider: Annotated[str, typer.Option(help="CSV: provider of all requests.")] = "openai",
    model: Annotated[str, typer.Option(help="CSV: model of all requests.")] = "gpt-4o",
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for delivery at the end.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Report as one line of JSON.")] = False,
) -> None:
    """Replay a recorded trace through the real emitter, in real time, N times as fast or flat out.

    Ends with code 1 where events were not delivered or were refused; what a spool folder holds is sent by the next run.

    Example: gatemeter emit examples/azure-llm-2023/code.csv --gateway llm-proxy --kid llm-proxy-1
    --secrets secrets.json --spool spool --tenant acme --speed x60
    """
    try:
        factor = parse_speed(speed)
        first_us, last_us = _span(trace)
        settings = EmitterSettings(
            bootstrap=bootstrap,
            gateway_id=gateway,
            gateway_kind=kind,
            kid=kid,
            secret=read_secret(secrets, kid),
            topic=topic,
            spool_folder=spool,
            spool_mode="process" if spool is not None else "memory",
            attestation_key_file=attestation_key,
        )
        emitter = Emitter(settings)
    except (SettingsError, TraceError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    shift_us = 0 if keep_times else _shift_us(first_us, last_us, factor)
    who = {"tenant_id": tenant, "app_id": app, "provider": provider, "model": model, "operation": "chat"}
    began = time.monotonic()
    stopped = _play(emitter, shifted(_events(trace, limit, who), shift_us), first_us + shift_us, factor)
    report = emitter.close(timeout)
    _print(report, time.monotonic() - began, stopped, as_json)
    if stopped or report.undelivered or report.counters.dropped or report.counters.invalid:
        raise typer.Exit(1)


def parse_speed(text: str) -> float | None:
    """`real` is 1.0, `x60` 60.0, `max` None. Raises `SettingsError`."""
    if text == "max":
        return None
    try:
        factor = 1.0 if text == "real" else float(text.removeprefix("x"))
    except ValueError:
        factor = 0.0
    if not 0.001 <= factor <= 1_000_000:
        raise SettingsError(f"--speed: must be real, max or x0.001 to x1000000, got {text!r}")
    return factor


def _events(trace: Path, limit: int | None, who: dict[str, str | None]) -> Iterator[Event]:
    source = read_jsonl(trace) if trace.suffix in (".jsonl", ".ndjson") else csv_events(read_csv(trace), **who)
    for number, event in enumerate(source):
        if number == limit:
            return
        yield event


def _span(trace: Path) -> tuple[int, int]:
    """First and last time of the whole trace; reading it once also finds every bad line before anything is sent."""
    first_us, last_us = 1 << 62, 0
    try:
        for event in _events(trace, None, {}):
            first_us, last_us = min(first_us, event.request_started_at), max(last_us, event.occurred_at)
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{trace}: must be CSV or JSONL in UTF-8: {error}") from None
    if last_us == 0:
        raise TraceError(f"{trace}: must hold at least one event")
    return first_us, last_us


def _shift_us(first_us: int, last_us: int, factor: float | None) -> int:
    """The last event gets the time at which it will be sent, so that no event is ever ahead of the clock."""
    duration_us = 0 if factor is None else int((last_us - first_us) / factor)
    return now_us() + duration_us - last_us


def _play(emitter: Emitter, events: Iterator[Event], first_us: int, factor: float | None) -> bool:
    """Whether a signal ended it early."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped

    def send(event: Event) -> None:
        emitter.emit(event)
        if next(sent) % 1000 == 0:
            while emitter.counters().spooled > _BACKLOG_EVENTS:
                time.sleep(0.01)

    sent = itertools.count(1)
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        replay(events, send, first_us=first_us, speed=factor)
        return False
    except _Stopped:
        return True
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(report: CloseReport, seconds: float, stopped: bool, as_json: bool) -> None:
    counters = report.counters
    if as_json:
        values = {**counters._asdict(), "undelivered": report.undelivered, "kept": report.kept}
        typer.echo(json.dumps({**values, "stopped": stopped, "seconds": round(seconds, 3)}))
        return
    typer.echo(
        f"{counters.emitted} events in {seconds:.1f} s: {counters.delivered} delivered, {report.undelivered} not"
        f" delivered{' (kept in the spool for the next run)' if report.kept else ''}, {counters.dropped} dropped,"
        f" {counters.invalid} invalid{'; stopped by a signal' if stopped else ''}"
    )
