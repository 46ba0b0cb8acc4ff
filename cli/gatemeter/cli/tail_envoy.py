"""`gatemeter tail envoy`: follows Envoy's access log and publishes what it says."""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from gatemeter.producers import Emitter, EmitterSettings, SettingsError
from gatemeter.producers.tails import LogFile, LogPipe, PositionError, Positions, Tail
from gatemeter.producers.tails.envoy import EnvoyLog, FieldsError, LogFields


def tail_envoy(
    log: Annotated[str, typer.Argument(help="The log's path, or - for standard input.")],
    state: Annotated[Path, typer.Option(help="Folder of this tail alone: its position and its spool.")],
    fields: Annotated[Path | None, typer.Option(help="TOML: what the log's fields are called.")] = None,
    once: Annotated[bool, typer.Option(help="Stop at the log's present end.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for delivery at the end.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Report as one line of JSON.")] = False,
) -> None:
    """Follow the JSON access log of Envoy or Envoy AI Gateway, and publish its requests and attempts.

    GATEMETER_BOOTSTRAP, _GATEWAY_ID, _GATEWAY_KIND, _KID and _SECRETS_FILE say who it is. Ends in order on SIGTERM; the
    next run goes on behind the last line, also after SIGKILL. Ends with code 1 where something was refused or not
    delivered (the spool keeps it for the next run), with code 2 where a setting is wrong.

    Example: gatemeter tail envoy /var/log/envoy/gatemeter.log --state /var/lib/gatemeter-tail
    """
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        names = LogFields() if fields is None else LogFields.from_file(fields)
        positions = Positions(state)
        position = positions.load()
        settings = EmitterSettings.from_environment(spool_folder=state / "spool")
        reader = EnvoyLog(settings.gateway_id, names, state=position.state)
        emitter = Emitter(settings)
    except (SettingsError, FieldsError, PositionError, ValueError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    is_pipe = log == "-"
    begin = position.head, position.offset, position.since_ns
    source = LogPipe(sys.stdin.fileno()) if is_pipe else LogFile(Path(log), *begin)
    tail = Tail(source, reader, emitter, None if is_pipe else positions, since_ns=position.since_ns)
    try:
        tail.run(stopped, once=once)
    finally:
        closed = emitter.close(timeout)
        source.close()
    said = {**tail.report()._asdict(), "ignored": reader.ignored, "bad_values": reader.bad_values}
    said |= {"given_up": reader.given_up, "undelivered": closed.undelivered, "kept": closed.kept}
    _print(said, as_json)
    if said["invalid"] or said["errors"] or closed.undelivered or closed.counters.dropped:
        raise typer.Exit(1)


def _print(said: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(said))
        return
    typer.echo(
        f"{said['lines']} lines, {said['events']} events: {said['bad_lines']} lines that could not be read,"
        f" {said['ignored']} of other paths, {said['bad_values']} fields left out, {said['invalid']} events refused,"
        f" {said['errors']} errors, {said['given_up']} requests without an end, {said['undelivered']} events not"
        f" delivered{' (kept in the spool for the next run)' if said['kept'] else ''}"
    )
