"""`gatemeter`: the list of commands. Each is loaded when it is called, so that the base install has a command line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import typer

from gatemeter.schemas.extras import ExtraMissing

_PASS_ON: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@dataclass(frozen=True)
class Command:
    """`place`: module:function. `extra`: what it needs beside the base install, '' for nothing."""

    path: str
    place: str
    extra: str
    help: str


COMMANDS: Final = (
    Command("demo", "gatemeter.cli.demo.command:demo", "local", "Send an hour of real traffic through it all."),
    Command("local", "gatemeter.cli.local:local", "local", "Run the embedded system until Ctrl-C."),
    Command("emit", "gatemeter.cli.emit:emit", "", "Replay a recorded trace through the real emitter."),
    Command("tail envoy", "gatemeter.cli.tail_envoy:tail_envoy", "", "Meter what Envoy's access log says."),
    Command("tail jsonl", "gatemeter.cli.tail_jsonl:tail_jsonl", "", "Evidence from an application's log."),
    Command("collector serve", "gatemeter.cli.collector:collector_serve", "collector", "Take what gateways post."),
    Command("collector token", "gatemeter.cli.collector:collector_token", "collector", "Make a token for a sender."),
    Command("collector openapi", "gatemeter.cli.collector:collector_openapi", "collector", "Print what it takes."),
    Command("worker", "gatemeter.cli.worker:worker", "processors", "Run one worker."),
    Command("topics apply", "gatemeter.cli.topics:topics_apply", "processors", "Create the topics that are missing."),
    Command("topics accept-gap", "gatemeter.cli.gaps:topics_accept_gap", "processors", "Go on where a log was cut."),
    Command("migrate", "gatemeter.cli.migrate:migrate", "sinks", "Bring ClickHouse's tables and views up to date."),
    Command("tenants apply", "gatemeter.cli.tenants:tenants_apply", "processors", "Put a tenants file in force."),
    Command("tenants list", "gatemeter.cli.tenants_list:tenants_list", "processors", "List tenants and their place."),
    Command("tenants show", "gatemeter.cli.tenants_list:tenants_show", "processors", "Show a tenant and its registry."),
    Command(
        "tenants unattributed",
        "gatemeter.cli.tenants_unattributed:tenants_unattributed",
        "processors",
        "List usage that nobody bears.",
    ),
    Command("rates build", "gatemeter.cli.rates:rates_build", "processors", "Build a rate card from a rates file."),
    Command("rates apply", "gatemeter.cli.rates:rates_apply", "processors", "Put a rate card in force."),
    Command("rates diff", "gatemeter.cli.rates_diff:rates_diff", "processors", "Show what two cards say differently."),
    Command("rates check", "gatemeter.cli.rates_check:rates_check", "processors", "Show usage that has no rate."),
    Command("rates preview", "gatemeter.cli.rates_preview:rates_preview", "processors", "Price a month otherwise."),
    Command(
        "commitments apply", "gatemeter.cli.terms_apply:commitments_apply", "processors", "Put commitments in force."
    ),
    Command("commitments status", "gatemeter.cli.commitments:commitments_status", "sinks", "Show what was not used."),
    Command("fx apply", "gatemeter.cli.terms_apply:fx_apply", "processors", "Put exchange rates in force."),
    Command("budgets apply", "gatemeter.cli.terms_apply:budgets_apply", "processors", "Put budgets in force."),
    Command("budgets status", "gatemeter.cli.budgets:budgets_status", "sinks", "Show spend against budgets."),
    Command("budgets check", "gatemeter.cli.budgets:budgets_check", "sinks", "Record what budgets have crossed."),
    Command("gateways add", "gatemeter.cli.gateways:gateways_add", "processors", "Register a gateway with a key."),
    Command("gateways rotate", "gatemeter.cli.gateways:gateways_rotate", "processors", "Give a gateway another key."),
    Command("gateways revoke", "gatemeter.cli.gateways:gateways_revoke", "processors", "End a key from a time on."),
    Command("gateways keys", "gatemeter.cli.gateways:gateways_keys", "processors", "Print public attestation keys."),
    Command("gateways list", "gatemeter.cli.gateways:gateways_list", "processors", "List gateways and key ids."),
    Command(
        "authorities set", "gatemeter.cli.authorities:authorities_set", "processors", "Let another gateway charge."
    ),
    Command("authorities end", "gatemeter.cli.authorities:authorities_end", "processors", "End an authority."),
    Command("authorities list", "gatemeter.cli.authorities:authorities_list", "processors", "List authorities."),
    Command("quarantine list", "gatemeter.cli.quarantine_reading:quarantine_list", "processors", "List refusals."),
    Command("quarantine show", "gatemeter.cli.quarantine_reading:quarantine_show", "processors", "Print a refusal."),
    Command("quarantine replay", "gatemeter.cli.quarantine_acting:quarantine_replay", "processors", "Append it again."),
    Command("quarantine discard", "gatemeter.cli.quarantine_acting:quarantine_discard", "processors", "Give it up."),
    Command("operators init", "gatemeter.cli.gateways:operators_init", "processors", "Make an operator's key."),
    Command("billing import", "gatemeter.cli.billing_import:billing_import", "sinks", "Import a provider's bill."),
    Command("billing list", "gatemeter.cli.billing_reading:billing_list", "sinks", "List imported bills."),
    Command("billing show", "gatemeter.cli.billing_reading:billing_show", "sinks", "Show what an import has."),
    Command("billing lines", "gatemeter.cli.billing_reading:billing_lines", "sinks", "Print the lines in force."),
    Command("adjust", "gatemeter.cli.adjust:adjust", "processors", "Post one correction by hand."),
    Command("reprice", "gatemeter.cli.reprice:reprice", "processors", "Price usage again with another rate card."),
    Command("reorganise", "gatemeter.cli.reorganise:reorganise", "processors", "Move usage to other tenants."),
    Command("corrections list", "gatemeter.cli.corrections:corrections_list", "processors", "List corrections."),
    Command("corrections commit", "gatemeter.cli.corrections:corrections_commit", "processors", "Commit a staged run."),
    Command("periods status", "gatemeter.cli.periods:periods_status", "processors", "Show months and open points."),
    Command("periods close", "gatemeter.cli.periods:periods_close", "processors", "Close a month."),
    Command("sealers init", "gatemeter.cli.seals:sealers_init", "processors", "Make a sealer's key."),
    Command("seal", "gatemeter.cli.seals:seal", "processors", "Seal the hours that are over."),
    Command("proof", "gatemeter.cli.proof:proof", "processors", "Print the proof of a sealed request."),
    Command("verify-proof", "gatemeter.cli.verify_proof:verify", "", "Check a proof with public keys only."),
    Command("reconcile", "gatemeter.cli.reconcile:reconcile_command", "processors", "Compare with a provider's bill."),
    Command("coverage", "gatemeter.cli.reconcile:coverage_command", "processors", "Show what share has facts."),
    Command("reconciliations list", "gatemeter.cli.reconciliations:reconciliations_list", "processors", "List runs."),
    Command("reconciliations show", "gatemeter.cli.reconciliations:reconciliations_show", "processors", "Show a run."),
    Command(
        "reconciliations compare", "gatemeter.cli.reconciliations:reconciliations_compare", "processors", "Compare two."
    ),
    Command(
        "reconciliations accept", "gatemeter.cli.reconciliations:reconciliations_accept", "processors", "Post a run."
    ),
    Command(
        "reconciliations rates",
        "gatemeter.cli.reconciliations:reconciliations_rates",
        "processors",
        "Write the invoice's prices as a rates file.",
    ),
    Command("evidence", "gatemeter.cli.evidence:evidence", "processors", "Make a month's evidence for auditors."),
    Command(
        "verify-evidence", "gatemeter.cli.verify_evidence:verify_evidence", "", "Check such a pack by its signature."
    ),
    Command("report", "gatemeter.cli.report:report", "sinks", "Print what each tenant used and owes."),
    Command("exceptions find", "gatemeter.cli.exceptions:exceptions_find", "sinks", "Look for what is unusual."),
    Command("exceptions list", "gatemeter.cli.exceptions:exceptions_list", "sinks", "List what was found."),
    Command("exceptions show", "gatemeter.cli.exceptions:exceptions_show", "sinks", "Show one with its evidence."),
    Command(
        "exceptions acknowledge",
        "gatemeter.cli.exceptions_acts:exceptions_acknowledge",
        "sinks",
        "Say that it is seen.",
    ),
    Command(
        "exceptions resolve", "gatemeter.cli.exceptions_acts:exceptions_resolve", "sinks", "Say that it is settled."
    ),
    Command("exceptions reopen", "gatemeter.cli.exceptions_acts:exceptions_reopen", "sinks", "Open it again."),
    Command("exceptions assign", "gatemeter.cli.exceptions_acts:exceptions_assign", "sinks", "Give it to an owner."),
    Command("statement", "gatemeter.cli.statement.command:statement", "sinks", "Hand out a tenant's month."),
    Command("dispute open", "gatemeter.cli.disputes:dispute_open", "processors", "Dispute a request or a statement."),
    Command("dispute show", "gatemeter.cli.disputes:dispute_show", "processors", "Print a dispute and its evidence."),
    Command("dispute resolve", "gatemeter.cli.disputes:dispute_resolve", "processors", "Uphold or reject a dispute."),
    Command("dispute list", "gatemeter.cli.disputes:dispute_list", "processors", "List disputes."),
    Command("explain", "gatemeter.cli.explain:explain", "processors", "Explain what a request costs, line by line."),
    Command("audit", "gatemeter.cli.audit:audit", "processors", "Check that nothing was lost, doubled or changed."),
)
GROUPS: Final = {
    "tail": "Meters that read what a gateway writes about itself.",
    "collector": "The HTTP endpoint for gateways and policy points that post what they log.",
    "topics": "Topics of Kafka.",
    "tenants": "Tenants, charge plans, policy prices and parameters.",
    "rates": "Rate cards.",
    "commitments": "Committed use and provisioned throughput, and what of it was not used.",
    "budgets": "Monthly budgets: what is spent, and what is crossed.",
    "fx": "Exchange rates for statements in another currency.",
    "gateways": "Gateways and their keys.",
    "authorities": "Who makes the fact where two gateways see one call.",
    "quarantine": "Refused records and their way back.",
    "billing": "What providers say they bill: imports and their lines.",
    "operators": "Operators and their signing keys.",
    "sealers": "Keys with which hours are sealed.",
    "periods": "Months: how far they are sealed, what is open, and their end.",
    "reconciliations": "Comparisons of gateway facts with providers' bills, and what becomes of them.",
    "exceptions": "What is unusual or wrong: found, listed, settled.",
    "dispute": "What tenants question: evidence frozen, resolved by a correction or a rejection.",
    "corrections": "Runs of corrections: staged, then committed.",
}


def run(command: Command, arguments: Sequence[str]) -> None:
    """Runs a command with its own arguments; ends the process with its exit code.

    Where its extra is not installed it ends with one line that says the cure.
    """
    module, function = command.place.split(":")
    application = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
    try:
        application.command()(getattr(importlib.import_module(module), function))
        application(args=list(arguments), prog_name=f"gatemeter {command.path}")
    except ImportError as error:
        if not _is_of_the_extra(error, command):
            raise
        cure = f'pip install "gatemeter[{command.extra}]"'
        typer.echo(f"gatemeter {command.path} needs more than the base install: {cure}", err=True)
        raise SystemExit(1) from error


def _is_of_the_extra(error: ImportError, command: Command) -> bool:
    """A command's module may import a package of its extra before the part of gatemeter that asks for it."""
    if isinstance(error, ExtraMissing):
        return True
    is_ours = (error.name or "").split(".")[0] == "gatemeter"
    return isinstance(error, ModuleNotFoundError) and bool(command.extra) and not is_ours


def _build() -> typer.Typer:
    application = typer.Typer(
        name="gatemeter",
        help="Meters AI model use at the gateway and turns it into rows that finance can charge.\n\n"
        "Example: gatemeter demo --json",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_show_locals=False,
    )
    groups = {name: typer.Typer(help=text, no_args_is_help=True) for name, text in GROUPS.items()}
    for name, group in groups.items():
        application.add_typer(group, name=name)
    for command in COMMANDS:
        *group_name, name = command.path.split()
        place = groups[group_name[0]] if group_name else application
        place.command(name, help=command.help, context_settings=dict(_PASS_ON))(_stub(command))
    return application


def _stub(command: Command) -> Any:
    def call(context: typer.Context) -> None:
        run(command, context.args)

    return call


app: Final = _build()

if __name__ == "__main__":
    sys.exit(app(prog_name="gatemeter"))
