"""`gatemeter proof`: the inclusion proofs of a request, as JSON."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli.one_line import errors
from gatemeter.processors.sealing.proving import NoProof, proofs_of
from gatemeter.sinks.clickhouse import connect


@ch.one_line_errors
def proof(
    request_id: Annotated[str, typer.Argument(help="Id of the request.")],
    gateway: Annotated[str, typer.Option("--gateway", help="Its gateway; needed where several know the id.")] = "",
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Print the proof that a request's rows are in signed seals; anyone checks it with gatemeter verify-proof.

    Exit code 1: the request is not known, not sealed yet, or was changed since.

    Example: gatemeter proof 01J9Z6… > proof.json
    """
    client = connect(ch.settings(url, user, password, password_file, database))
    try:
        found = proofs_of(client, request_id, gateway)
    except NoProof as error:
        errors.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from error
    finally:
        client.close()
    typer.echo(json.dumps(found, indent=1))
