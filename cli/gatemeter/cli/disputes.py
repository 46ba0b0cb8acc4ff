"""`gatemeter dispute open|show|resolve|list`: what a tenant questions, with evidence frozen at that moment."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from typing import Annotated, Any

import typer
from clickhouse_connect.driver.client import Client
from rich.markup import escape

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli.explain_json import explanation_json
from gatemeter.cli.one_line import one_line_errors_of
from gatemeter.cli.screen import plain_table
from gatemeter.cli.statement.as_json import whole_json
from gatemeter.processors.explaining.explanation import explain
from gatemeter.sinks.reports.requests import gateways_of, read_requests
from gatemeter.sinks.statements import disputes
from gatemeter.sinks.statements.disputes import Disputed, DisputeError
from gatemeter.sinks.statements.period import period_state
from gatemeter.sinks.statements.whole import read_statement
from gatemeter.sinks.terms.months import month_of, utc_text

Reason = Annotated[str, typer.Option("--reason", help="Why; it stands on the statement.", show_default=False)]
By = Annotated[str, typer.Option("--by", help="Who says so; it stands on the statement.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
Dispute = Annotated[str, typer.Argument(help="Id of the dispute.", show_default=False)]

one_line_errors = one_line_errors_of({1: (DisputeError,), 2: ch.FAILURES})


class State(StrEnum):
    """Where a dispute stands."""

    open = disputes.OPEN
    upheld = disputes.UPHELD
    rejected = disputes.REJECTED


@one_line_errors
def dispute_open(
    reason: Reason,
    by: By,
    request_id: Annotated[str, typer.Argument(help="Id of the request.", show_default=False)] = "",
    statement: Annotated[str, typer.Option("--statement", help="TENANT/YYYY-MM: all of a statement.")] = "",
    gateway: Annotated[str, typer.Option("--gateway", help="Its gateway; needed where several know the id.")] = "",
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Dispute a request or a statement: what the tables hold of it now is kept beside the dispute as evidence.

    Example: gatemeter dispute open 01J9Z6… --reason "charged twice" --by "J. Doe, retail finance"
    """
    _said(("--reason", reason), ("--by", by))
    if bool(request_id) == bool(statement):
        raise ch.OptionError("REQUEST_ID: either it or --statement must be given, not both")
    if gateway and statement:
        raise ch.OptionError("--gateway: must be given beside REQUEST_ID only")
    now_us = time.time_ns() // 1_000
    with ch.reading(url, user, password, password_file, database) as client:
        if statement:
            disputed = _statement(statement)
            evidence = _statement_evidence(client, disputed, now_us)
        else:
            disputed = disputes.disputed_request(client, _gateway(client, request_id, gateway), request_id)
            evidence = _request_evidence(client, disputed, now_us)
        dispute_id, digest = disputes.open_dispute(client, disputed, evidence, reason=reason, by=by, now_us=now_us)
    if as_json:
        typer.echo(json.dumps({"dispute": dispute_id, "evidence_digest": digest, "tenant_id": disputed.tenant_id}))
        return
    ch.console.print(f"dispute {dispute_id} is open; evidence is frozen, SHA-256 {digest}", markup=False)


@one_line_errors
def dispute_show(
    dispute: Dispute,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Print a dispute with its evidence as JSON; ends with 1 where the evidence is not what was frozen.

    Example: gatemeter dispute show 20261124T123444Z-5f0c1a2b3c4d
    """
    with ch.reading(url, user, password, password_file, database) as client:
        row, evidence = disputes.evidence_of(client, dispute)
    typer.echo(json.dumps(_plain(row) | {"evidence": json.loads(evidence)}, indent=1))


@one_line_errors
def dispute_resolve(
    dispute: Dispute,
    reason: Reason,
    by: By,
    uphold: Annotated[bool, typer.Option("--uphold", help="It is right; --correction puts it right.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="It is not right.")] = False,
    correction: Annotated[str, typer.Option("--correction", help="The committed run of corrections.")] = "",
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """End a dispute: by a correction (adjust, reprice, reorganise) that is committed and touches it, or with a reason.

    Example: gatemeter dispute resolve 20261124T123444Z-5f0c1a2b3c4d --reject --reason "two requests" --by "A. Roe"
    """
    _said(("--reason", reason), ("--by", by))
    if uphold == reject:
        raise ch.OptionError("--uphold: either it or --reject must be given")
    if uphold != bool(correction):
        raise ch.OptionError("--correction: must be given beside --uphold, and beside it only")
    now_us = time.time_ns() // 1_000
    with ch.reading(url, user, password, password_file, database) as client:
        if uphold:
            disputes.uphold(client, dispute, run_id=correction, reason=reason, by=by, now_us=now_us)
        else:
            disputes.reject(client, dispute, reason=reason, by=by, now_us=now_us)
    how = f"upheld by run {correction}" if uphold else "rejected"
    ch.console.print(f"dispute {dispute} is {how}; it is on the next statement", markup=False)


@one_line_errors
def dispute_list(
    tenant: Annotated[str, typer.Option("--tenant", help="One tenant; all if not given.")] = "",
    period: Annotated[str, typer.Option("--period", help="YYYY-MM of what is disputed; all if not given.")] = "",
    state: Annotated[State | None, typer.Option("--state", help="One state; all if not given.")] = None,
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """List disputes, the oldest first.

    Example: gatemeter dispute list --tenant acme --state open
    """
    if period:
        _month(period, "--period")
    with ch.reading(url, user, password, password_file, database) as client:
        found = disputes.list_disputes(client, tenant=tenant, period=period, state=state.value if state else "")
    if as_json:
        typer.echo(json.dumps([_plain(row) for row in found]))
        return
    table = plain_table("dispute", "tenant", "of", "state", "opened", "reason", "resolution")
    for row in found:
        of = row["request_id"] or f"statement {row['period']}"
        opened = f"{utc_text(row['opened_us'])} by {row['opened_by']}"
        run = f" (run {row['correction_run_id']})" if row["correction_run_id"] else ""
        cells = (row["dispute_id"], row["tenant_id"], of, row["state"], opened, row["reason"], row["resolution"] + run)
        table.add_row(*(escape(str(cell)) for cell in cells))
    ch.console.print(table if found else "no dispute matches")


def _request_evidence(client: Client, disputed: Disputed, now_us: int) -> dict[str, Any]:
    """The explanation of the request, its rows of facts, and where its month stands."""
    (rows,) = read_requests(client, [(disputed.gateway_id, disputed.request_id)])
    return {
        "taken_at": utc_text(now_us),
        "period": _period(client, disputed),
        "explanation": explanation_json(explain(rows, None)),
        "facts": {"usage": [_text(row) for row in rows.usage], "decisions": [_text(row) for row in rows.decisions]},
    }


def _statement_evidence(client: Client, disputed: Disputed, now_us: int) -> dict[str, Any]:
    """The whole statement as it stands. Raises `DisputeError` where there is nothing on it."""
    read = read_statement(client, disputed.tenant_id, month_of(disputed.period), now_us)
    if not read.sections:
        raise DisputeError(f"--statement: nothing is billed to tenant {disputed.tenant_id!r} in {disputed.period}")
    return {
        "taken_at": utc_text(now_us),
        "period": _period(client, disputed),
        "statement": whole_json(read, []),
    }


def _period(client: Client, disputed: Disputed) -> dict[str, Any]:
    """The last seal stands for all before it: each holds the id of the one before."""
    state = period_state(client, month_of(disputed.period))
    return {"period": disputed.period, "state": state.state, "last_seal": state.last_seal, "number": state.last_number}


def _gateway(client: Client, request_id: str, gateway: str) -> str:
    known = gateways_of(client, request_id)
    if (gateway and gateway not in known) or not known:
        of = f" of gateway {gateway!r}" if gateway else ""
        raise DisputeError(f"REQUEST_ID: request {request_id!r}{of} is not known")
    if len(known) > 1 and not gateway:
        raise DisputeError(
            f"REQUEST_ID: {request_id!r} is known of gateways {', '.join(known)}: name one with --gateway"
        )
    return gateway or known[0]


def _statement(text: str) -> Disputed:
    """A tenant's id may have a slash; a month has none."""
    tenant, _, period = text.rpartition("/")
    if not tenant:
        raise ch.OptionError(f"--statement: must be TENANT/YYYY-MM, got {text!r}")
    _month(period, "--statement")
    return Disputed(tenant, period)


def _month(period: str, option: str) -> None:
    try:
        month_of(period)
    except ValueError as error:
        raise ch.OptionError(f"{option}: {error}") from error


def _said(*options: tuple[str, str]) -> None:
    for option, value in options:
        if not value.strip():
            raise ch.OptionError(f"{option}: must not be empty")


def _text(row: dict[str, Any]) -> dict[str, Any]:
    """Bytes do not go into JSON; facts have none that say more than the columns beside them."""
    return {name: value for name, value in row.items() if not isinstance(value, bytes)}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    times = {name: None if row[f"{name[:-3]}_us"] is None else utc_text(row[f"{name[:-3]}_us"]) for name in _AT}
    return {name: value for name, value in row.items() if not name.endswith("_us")} | times


_AT = ("opened_at", "resolved_at")
