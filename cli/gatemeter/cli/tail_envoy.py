"""`gatemeter tail envoy`: follows Envoy's access log and publishes what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gatemeter.cli.tailing import fields_or_end, tailed
from gatemeter.producers.tails.envoy import EnvoyLog, LogFields


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
    names = LogFields() if fields is None else fields_or_end(lambda: LogFields.from_file(fields))
    reader, said, is_well = tailed(
        log,
        state,
        lambda settings, position, _: EnvoyLog(settings.gateway_id, names, state=position.state),
        once=once,
        timeout=timeout,
    )
    said |= {"ignored": reader.ignored, "bad_values": reader.bad_values, "given_up": reader.given_up}
    _print(said, as_json)
    if not is_well:
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
