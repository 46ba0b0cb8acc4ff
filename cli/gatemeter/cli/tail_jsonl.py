"""`gatemeter tail jsonl`: follows an application's log and publishes the calls that it tells as evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gatemeter.cli.tailing import fields_or_end, tailed
from gatemeter.producers.settings import TELEMETRY
from gatemeter.producers.tails.jsonl import JsonlFields, JsonLog


def tail_jsonl(
    log: Annotated[str, typer.Argument(help="The log's path, or - for standard input.")],
    state: Annotated[Path, typer.Option(help="Folder of this tail alone: its position and its spool.")],
    fields: Annotated[Path | None, typer.Option(help="TOML: what the log's fields are called.")] = None,
    once: Annotated[bool, typer.Option(help="Stop at the log's present end.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for delivery at the end.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Report as one line of JSON.")] = False,
) -> None:
    """Follow the JSON lines of an application, and publish the model calls that they tell as evidence.

    GATEMETER_BOOTSTRAP, _GATEWAY_ID, _KID and _SECRETS_FILE say who it is; its kind is always telemetry. Ends in order
    on SIGTERM; the next run goes on behind the last line, also after SIGKILL. Ends with code 1 where something was
    refused or not delivered (the spool keeps it for the next run), with code 2 where a setting is wrong.

    Example: gatemeter tail jsonl /var/log/app/calls.jsonl --state /var/lib/gatemeter-app
    """
    names = JsonlFields() if fields is None else fields_or_end(lambda: JsonlFields.from_file(fields))
    reader, said, is_well = tailed(
        log,
        state,
        lambda settings, _, source: JsonLog(settings.gateway_id, names, source.place),
        once=once,
        timeout=timeout,
        gateway_kind=TELEMETRY,
    )
    _print(said | {"ignored": reader.ignored, "bad_values": reader.bad_values}, as_json)
    if not is_well:
        raise typer.Exit(1)


def _print(said: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(said))
        return
    typer.echo(
        f"{said['lines']} lines, {said['events']} calls: {said['bad_lines']} lines that could not be read,"
        f" {said['ignored']} that tell no call, {said['bad_values']} fields left out, {said['invalid']} calls refused,"
        f" {said['errors']} errors, {said['undelivered']} calls not"
        f" delivered{' (kept in the spool for the next run)' if said['kept'] else ''}"
    )
