"""Tables and JSON of reconciliation runs; what nobody can explain stands first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from rich.markup import escape
from rich.table import Table

from gatemeter.cli.correcting import shown
from gatemeter.cli.screen import plain_table
from gatemeter.processors.reconciling.causes import BY_NAME, CAUSES, UNEXPLAINED
from gatemeter.processors.reconciling.kept import Change, KeptFinding, KeptRun
from gatemeter.sinks.reports.money import pico_of, text_of

_ORDER = {cause.name: number for number, cause in enumerate(CAUSES)}


def causes_table(run: KeptRun) -> Table:
    """What a run found, by cause; the amounts add up from the gateway's cost to the invoice."""
    what = " ".join(part for part in (run.provider, run.period, run.workload_class) if part)
    title = f"{what}: run {run.run_id}, {run.state}, {run.currency}"
    table = plain_table("cause", "amount", "findings", "then", "it means", title=title, right=("amount", "findings"))
    estimated = f"of which {shown(run.estimated_cost)} from estimated tokens" if run.estimated_cost else ""
    table.add_row("gateway facts", shown(run.provider_cost), "", "", estimated)
    for name in sorted(run.causes, key=lambda cause: _ORDER[cause]):
        said, cause = run.causes[name], BY_NAME[name]
        table.add_row(name, text_amount(said["amount"]), f"{said['findings']:,}", cause.action, cause.means)
    table.add_section()
    table.add_row("invoice", shown(run.invoiced), "", "", "")
    return table


def text_amount(text: str) -> str:
    """An amount that is text already, without zeros at its end."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def findings_table(findings: Sequence[KeptFinding], currency: str, most: int) -> Table:
    """The findings with the largest amounts, unexplained ones first."""
    ranked = sorted(findings, key=lambda each: (each.cause not in UNEXPLAINED, -abs(each.amount)))
    more = len(ranked) - most
    title = f"Findings, {currency}" + (f"; the largest {most} of {len(ranked):,}" if more > 0 else "")
    columns = ("cause", "day", "scope", "model", "of", "tier", "quantity", "amount", "evidence")
    table = plain_table(*columns, title=title, right=("quantity", "amount"))
    for each in ranked[:most]:
        tier = " ".join(part for part in (each.service_tier, each.workload_class) if part)
        quantity = "" if each.quantity is None else text_amount(f"{each.quantity:f}")
        evidence = ", ".join(f"{name} {_text(value)}" for name, value in each.evidence.items())
        table.add_row(
            *(each.cause, each.day.isoformat(), escape(each.scope), escape(each.model), each.token_type, tier),
            *(quantity, shown(each.amount), escape(evidence)),
        )
    return table


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def runs_table(runs: Iterable[KeptRun]) -> Table:
    """Runs, the newest first."""
    numbers = ("facts", "invoice", "variance", "unexplained")
    table = plain_table("run", "provider", "period", "class", "state", *numbers, "cur.", "by", right=numbers)
    for run in runs:
        left = [said["amount"] for cause, said in run.causes.items() if cause in UNEXPLAINED]
        open_amount = sum(map(pico_of_text, left))
        table.add_row(
            *(run.run_id, escape(run.provider), run.period, run.workload_class or "all", run.state),
            *(shown(run.provider_cost), shown(run.invoiced), shown(run.invoiced - run.provider_cost)),
            *(shown(open_amount), run.currency, escape(run.made_by)),
        )
    return table


def pico_of_text(text: str) -> int:
    """Decimal text as 10⁻¹² units."""
    return pico_of(Decimal(text))


def changes_table(changes: Sequence[Change], currency: str) -> Table:
    """What differs between two runs."""
    numbers = ("before", "after", "delta")
    table = plain_table("cause", "scope", "model", *numbers, title=f"Changes, {currency}", right=numbers)
    for change in changes:
        amounts = (change.before, change.after, change.after - change.before)
        table.add_row(change.cause, escape(change.scope), escape(change.model), *map(shown, amounts))
    return table


def run_json(run: KeptRun, findings: Iterable[KeptFinding] = ()) -> dict[str, Any]:
    """A run as plain data; amounts as text with all digits."""
    return {
        "run": run.run_id,
        "made_at": run.made_at.isoformat(),
        "made_by": run.made_by,
        "provider": run.provider,
        "period": run.period,
        "workload_class": run.workload_class,
        "state": run.state,
        "currency": run.currency,
        "provider_cost": text_of(run.provider_cost),
        "estimated_cost": text_of(run.estimated_cost),
        "invoiced": text_of(run.invoiced),
        "variance": text_of(run.invoiced - run.provider_cost),
        "causes": dict(run.causes),
        "findings": [finding_json(each) for each in findings],
    }


def finding_json(finding: KeptFinding) -> dict[str, Any]:
    """A finding as plain data."""
    return {
        "cause": finding.cause,
        "action": finding.action,
        "day": finding.day.isoformat(),
        "scope": finding.scope,
        "model": finding.model,
        "token_type": finding.token_type,
        "service_tier": finding.service_tier,
        "workload_class": finding.workload_class,
        "quantity": None if finding.quantity is None else f"{finding.quantity:f}",
        "amount": text_of(finding.amount),
        "evidence": dict(finding.evidence),
    }
