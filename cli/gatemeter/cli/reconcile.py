"""`gatemeter reconcile` and `gatemeter coverage`: gateway facts against the provider's billing exports."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli.clickhouse_options import console
from gatemeter.cli.correcting import shown
from gatemeter.cli.one_line import one_line_errors_of
from gatemeter.cli.reconciliation_tables import causes_table, findings_table
from gatemeter.cli.screen import plain_table
from gatemeter.processors.reconciling.kept import keep, kept_findings, kept_run
from gatemeter.processors.reconciling.running import Run, Wanted, reconcile
from gatemeter.processors.reconciling.settings import ReconcileError, settings_of
from gatemeter.processors.reconciling.using import Coverage, coverage, paths_of
from gatemeter.sinks.reports.money import text_of
from gatemeter.sinks.terms.exchange import NoRate

Provider = Annotated[str, typer.Option("--provider", help="The provider, as facts and billing lines name it.")]
Period = Annotated[str, typer.Option("--period", help="YYYY-MM in the provider's calendar.")]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="TOML file of tolerances, names and scopes: docs/reconciliation.md.")
]
WorkloadClass = Annotated[
    str, typer.Option("--workload-class", help="realtime or batch alone; batch jobs may close later.")
]
Currency = Annotated[str, typer.Option("--currency", help="Currency of the gateway's costs, where there are several.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")]

one_line_errors = one_line_errors_of({1: (ReconcileError, NoRate), 2: ch.FAILURES})


@one_line_errors
def reconcile_command(
    provider: Provider,
    period: Period,
    settings_file: SettingsFile = None,
    workload_class: WorkloadClass = "",
    currency: Currency = "",
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Compare what gateways metered with what the provider bills; every difference gets a cause. The run is kept.

    Exit code 0, whatever it finds: accept a run with gatemeter reconciliations accept.

    Example: gatemeter reconcile --provider openai --period 2026-10
    """
    with ch.reading(url, user, password, password_file, database, patiently=True) as client:
        run = _run(client, provider, period, settings_file, workload_class, currency)
        keep(client, run, getpass.getuser())
        if as_json:
            typer.echo(json.dumps(_run_json(run)))
            return
        console.print(causes_table(kept_run(client, run.run_id)))
        console.print(findings_table(kept_findings(client, run.run_id), run.currency, most=10))
        for note in _notes(run):
            console.print(note, markup=False)


@one_line_errors
def coverage_command(
    provider: Provider,
    period: Period,
    settings_file: SettingsFile = None,
    workload_class: WorkloadClass = "",
    currency: Currency = "",
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Show the share of what the provider billed that has facts, by model and gateway path, the largest gap first.

    Writes nothing. What tax, credits and fees come to is in no share.

    Example: gatemeter coverage --provider openai --period 2026-10
    """
    with ch.reading(url, user, password, password_file, database, patiently=True) as client:
        run = _run(client, provider, period, settings_file, workload_class, currency)
        found = coverage(run, paths_of(client, run.span, run.settings, run.grain, run.currency))
    if as_json:
        typer.echo(json.dumps({"currency": run.currency, **_coverage_json(found)}))
        return
    console.print(_coverage_table(run, found))


def _run(client: Any, provider: str, period: str, file: Path | None, workload_class: str, currency: str) -> Run:
    try:
        wanted = Wanted(provider, period, workload_class, currency)
        return reconcile(client, wanted, settings_of(provider, file), datetime.now(UTC))
    except NoRate:
        raise
    except ValueError as error:
        raise ReconcileError(str(error)) from error


def _notes(run: Run) -> list[str]:
    notes = [f"run {run.run_id}: gatemeter reconciliations show|accept {run.run_id}"]
    if run.missing_days:
        days = ", ".join(day.isoformat() for day in run.missing_days[:5])
        more = f" and {len(run.missing_days) - 5} more" if len(run.missing_days) > 5 else ""
        notes.insert(0, f"no import speaks of {days}{more}: these days are not compared")
    return notes


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "run": run.run_id,
        "provider": run.wanted.provider,
        "period": run.wanted.period,
        "workload_class": run.wanted.workload_class,
        "currency": run.currency,
        "imports": list(run.imports),
        "missing_days": [day.isoformat() for day in run.missing_days],
        "provider_cost": text_of(run.provider_cost),
        "estimated_cost": text_of(run.estimated_cost),
        "invoiced": text_of(run.invoiced),
        "variance": text_of(run.invoiced - run.provider_cost),
        "causes": {
            cause: {"amount": text_of(amount), "findings": count} for cause, (amount, count) in run.by_cause.items()
        },
    }


def _coverage_table(run: Run, found: list[Coverage]) -> Table:
    amounts = ("invoiced", "with facts", "gap", "%")
    title = f"Coverage of {run.wanted.provider} {run.wanted.period}, {run.currency}"
    table = plain_table("scope", "model", *amounts, "gateway path", title=title, right=amounts)
    for each in found:
        paths = ", ".join(f"{path.gateway_id} {path.route or '-'} {shown(path.cost)}" for path in each.paths)
        table.add_row(
            escape(each.scope), escape(each.model), shown(each.invoiced), shown(each.covered), shown(each.gap),
            _percent(each.covered, each.invoiced), escape(paths or "no gateway"),
        )  # fmt: skip
    invoiced, covered = sum(each.invoiced for each in found), sum(each.covered for each in found)
    table.add_section()
    table.add_row(
        "all", "", shown(invoiced), shown(covered), shown(invoiced - covered), _percent(covered, invoiced), ""
    )
    return table


def _percent(part: int, whole: int) -> str:
    """Down to a tenth, so that 100.0 means all."""
    return "" if not whole else f"{part * 1000 // whole // 10}.{part * 1000 // whole % 10}"


def _coverage_json(found: list[Coverage]) -> dict[str, Any]:
    invoiced, covered = sum(each.invoiced for each in found), sum(each.covered for each in found)
    return {
        "invoiced": text_of(invoiced),
        "covered": text_of(covered),
        "models": [
            {
                "scope": each.scope,
                "model": each.model,
                "invoiced": text_of(each.invoiced),
                "covered": text_of(each.covered),
                "gap": text_of(each.gap),
                "paths": [
                    {
                        "gateway_id": path.gateway_id,
                        "route": path.route,
                        "provider_cost": text_of(path.cost),
                        "attempts": path.attempts,
                    }
                    for path in each.paths
                ],
            }
            for each in found
        ],
    }
