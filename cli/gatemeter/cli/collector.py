"""`gatemeter collector ...`: the HTTP endpoint for gateways that post their logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gatemeter.producers import SettingsError
from gatemeter.producers.collector import openapi
from gatemeter.producers.collector.senders import new_token, token_digest
from gatemeter.producers.collector.serving import serve
from gatemeter.producers.collector.settings import CollectorSettings


def collector_serve(
    config: Annotated[Path, typer.Argument(help="TOML: address, spool, gateways and senders.")],
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for delivery at the end.")] = 10.0,
) -> None:
    """Take what Kong, APISIX, Open Policy Agent and others post, and publish it.

    A request is answered by 2xx when all that it holds is in the spool. Ends in order on SIGTERM; what Kafka has not
    taken by then is kept in the spool for the next run, and the exit code is 1. Code 2: a setting is wrong.

    Example: gatemeter collector serve collector.toml
    """
    try:
        settings = CollectorSettings.from_file(config)
        reports = serve(settings, timeout_s=timeout, listening=_listening)
    except (SettingsError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    for gateway_id, report in reports.items():
        counters = report.counters
        kept = " (kept in the spool for the next run)" if report.kept else ""
        typer.echo(
            f"{gateway_id}: {counters.emitted} events, {counters.delivered} delivered, {report.undelivered} not"
            f" delivered{kept}, {counters.dropped + counters.invalid} refused"
        )
    if any(report.undelivered for report in reports.values()):
        raise typer.Exit(1)


def _listening(host: str, port: int) -> None:
    typer.echo(f"listening on {host}:{port}", err=True)


def collector_token() -> None:
    """Make a token for a sender. Give the token to the sender, the digest to the collector's settings.

    Example: gatemeter collector token
    """
    token = new_token()
    typer.echo(f"token         {token}\ntoken_sha256  {token_digest(token)}")


def collector_openapi() -> None:
    """Print the OpenAPI description of the collector, which also serves it at /openapi.json.

    Example: gatemeter collector openapi > openapi.json
    """
    typer.echo(json.dumps(openapi.document(), indent=2))
