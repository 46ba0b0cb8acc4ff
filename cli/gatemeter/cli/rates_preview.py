"""`gatemeter rates preview`: what a month would have cost with another rate card or charge plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli import operator_options as ops
from gatemeter.cli.clickhouse_options import OptionError
from gatemeter.cli.correcting import shown
from gatemeter.cli.operator_options import console
from gatemeter.cli.rate_options import (
    DEFAULT_PUBLIC_KEYS,
    AsJson,
    PublicKeys,
    card_of_file,
    one_line_errors,
    read_published,
)
from gatemeter.cli.screen import plain_table
from gatemeter.processors.corrections.open_points import month_bounds
from gatemeter.processors.corrections.pricing import Plans, Pricer
from gatemeter.processors.corrections.truths import UsageHours
from gatemeter.processors.metadata.records import entry_of
from gatemeter.processors.metadata.tenantsfile import check_plans_exist, read_tenants_file
from gatemeter.processors.metadata.views import DatedPlan, Tenant, View
from gatemeter.processors.metadata.yamlfiles import FileError
from gatemeter.processors.rating.preview import SHOWN, Preview, PreviewLine, Side
from gatemeter.processors.sealing.periods import is_period
from gatemeter.schemas.codec import Decoded
from gatemeter.schemas.partitions import METADATA_TOPIC
from gatemeter.sinks.reports.money import text_of


@one_line_errors
def rates_preview(
    period: Annotated[str, typer.Option("--period", help="YYYY-MM: the month of usage, in UTC.")],
    card: Annotated[Path | None, typer.Option("--card", help="Card file (gatemeter rates build).")] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="Tenants file; its plans and tenants' terms count.")
    ] = None,
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
    bootstrap: ops.Bootstrap = ops.DEFAULT_BOOTSTRAP,
    operator_keys: PublicKeys = DEFAULT_PUBLIC_KEYS,
    kafka_config: ops.KafkaConfig = None,
    metadata_topic: ops.MetadataTopic = METADATA_TOPIC,
) -> None:
    """Show what a month's usage would have cost with another card, another plan, or both. Writes nothing.

    Example: gatemeter rates preview --card card.json --period 2026-10
    """
    if card is None and plan is None:
        raise OptionError("--card or --plan must be given")
    if not is_period(period):
        raise OptionError(f"--period must be YYYY-MM, got {period!r}")
    cards = None if card is None else [card_of_file(card)]
    log = read_published(bootstrap, operator_keys, kafka_config, metadata_topic).log
    plans = None if plan is None else plans_of_file(plan, log.view(log.loaded_to))
    with ch.reading(url, user, password, password_file, database) as client:
        preview = Preview(client, Pricer(log, cards, plans), UsageHours(*month_bounds(period)))
        preview.run()
    if as_json:
        typer.echo(json.dumps(preview_json(period, preview)))
    else:
        _show(period, preview)


def plans_of_file(path: Path, published: View) -> Plans:
    """The plans of a tenants file and the tenants that have them. Raises `FileError`."""
    drafts = read_tenants_file(path)
    check_plans_exist(path.name, drafts, published)
    entries = [entry_of(Decoded(draft.name, dict(draft.datum))) for draft in drafts]
    chosen = [entry for entry in entries if isinstance(entry, DatedPlan | Tenant)]
    if not chosen:
        raise FileError(f"{path.name}: must have plans or tenants")
    return Plans(chosen)


def preview_json(period: str, preview: Preview) -> dict[str, Any]:
    """The preview as plain data; amounts as text with all digits, after the retry rule."""
    return {
        "period": period,
        "tenants": [{"tenant_id": line.tenant_id, **_line_json(line)} for line in preview.lines],
        "totals": [_line_json(line) for line in preview.totals],
        "left": dict(sorted(preview.left.items())),
    }


def _line_json(line: PreviewLine) -> dict[str, Any]:
    return {
        "currency": line.currency,
        "attempts": line.attempts,
        "decisions": line.decisions,
        "now": _side_json(line.now),
        "then": _side_json(line.then),
        "difference": {name: text_of(line.difference(name)) for name in SHOWN},
        "newly_priced": line.newly_priced,
        "newly_unpriced": line.newly_unpriced,
    }


def _side_json(side: Side) -> dict[str, Any]:
    return {**{name: text_of(pico) for name, pico in side.amounts.items()}, "unpriced": side.unpriced}


def _show(period: str, preview: Preview) -> None:
    sides = ("now", "then", "difference")
    table = plain_table("tenant", "amount", *sides, title=f"Usage of {period}, after the retry rule", right=sides)
    for line in preview.lines:
        _rows(table, line.tenant_id or "none", line)
    table.add_section()
    for line in preview.totals:
        _rows(table, "all", line)
    console.print(table)
    for total in preview.totals:
        counts = f"{total.attempts:,} attempts, {total.decisions:,} decisions"
        changes = f"{total.newly_priced:,} newly priced, {total.newly_unpriced:,} newly unpriced"
        console.print(f"{total.currency or 'no currency'}: {counts}; {changes}")
    for why, count in sorted(preview.left.items()):
        console.print(f"left as they are, {why}: {count:,}", markup=False)
    if not preview.totals:
        console.print("nothing was used")


def _rows(table: Table, name: str, line: PreviewLine) -> None:
    """A row an amount, so that amounts with all their digits stand in 80 columns, and one for what has no price."""
    first = escape(name)
    for amount in SHOWN:
        sides = (line.now.amounts[amount], line.then.amounts[amount], line.difference(amount))
        table.add_row(first, f"{amount.replace('_', ' ')} {line.currency}".strip(), *map(shown, sides))
        first = ""
    unpriced = (line.now.unpriced, line.then.unpriced, line.then.unpriced - line.now.unpriced)
    table.add_row("", "without a price", *(f"{count:,}" for count in unpriced))
