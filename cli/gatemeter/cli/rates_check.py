"""`gatemeter rates check`: which usage has no rate, why, and which rates are about to end."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli import operator_options as ops
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
from gatemeter.processors.metadata.views import build_view
from gatemeter.processors.pricing.unpriced import Lack
from gatemeter.processors.rating.check import Ending, RateCheck, Unpriced
from gatemeter.processors.sealing.hours import utc
from gatemeter.schemas.partitions import METADATA_TOPIC

SHOWN_ENDINGS: Final = 20
"""Rates about to end that the table shows; `--json` has all."""

SHOWN_TENANTS: Final = 3


@one_line_errors
def rates_check(
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="Days back, and days ahead for endings.")] = 30,
    card: Annotated[
        Path | None, typer.Option("--card", help="Card file to ask instead of the published cards what it would price.")
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
    """Show usage of the last days that has no rate, and why. Exit code 0: all priced, 1: some is not, 2: an error.

    Beside it: whether the cards that apply now would price it, and rates that end within as many days.

    Example: gatemeter rates check --days 7 --card card.json
    """
    log = read_published(bootstrap, operator_keys, kafka_config, metadata_topic).log
    at_us = time.time_ns() // 1_000
    now, priced_at_us = log.view(log.loaded_to), at_us
    if card is not None:
        given = card_of_file(card)
        now, priced_at_us = build_view([given]), max(at_us, given.effective_from_us)
    with ch.reading(url, user, password, password_file, database) as client:
        check = RateCheck(client, log, now, at_us, days, priced_at_us=priced_at_us)
        unpriced, endings = check.unpriced(), check.endings()
    if as_json:
        typer.echo(json.dumps(check_json(days, unpriced, endings)))
    else:
        _show(days, unpriced, endings)
    if unpriced:
        raise typer.Exit(1)


def check_json(days: int, unpriced: list[Unpriced], endings: list[Ending]) -> dict[str, Any]:
    """The check as plain data; times in UTC."""
    return {
        "days": days,
        "attempts": sum(group.attempts for group in unpriced),
        "unpriced": [_unpriced_json(group) for group in unpriced],
        "ending": [_ending_json(ending) for ending in endings],
    }


def _unpriced_json(group: Unpriced) -> dict[str, Any]:
    place = group.place
    return {
        "provider": place.provider,
        "model": place.model,
        "served_model": place.served_model or None,
        "service_tier": place.service_tier or None,
        "workload_class": place.workload_class,
        "region": place.region or None,
        "reason": place.reason,
        "missing": list(place.missing),
        "input_tokens_above": place.input_tokens_above,
        "attempts": group.attempts,
        "input_tokens": group.input_tokens,
        "output_tokens": group.output_tokens,
        "first_seen": utc(group.first_us),
        "last_seen": utc(group.last_us),
        "tenants": sorted(group.tenants),
        "priced_now": group.lack_now is None,
        "reason_now": None if group.lack_now is None else group.lack_now.reason,
        "missing_now": [] if group.lack_now is None else list(group.lack_now.missing),
    }


def _ending_json(ending: Ending) -> dict[str, Any]:
    provider, model, tier, workload, region = ending.key
    return {
        "provider": provider,
        "model": model,
        "service_tier": tier or None,
        "workload_class": workload,
        "region": region or None,
        "ends": utc(ending.ends_us),
        "attempts": ending.attempts,
    }


def _show(days: int, unpriced: list[Unpriced], endings: list[Ending]) -> None:
    if unpriced:
        console.print(_unpriced_table(days, unpriced))
    attempts = sum(group.attempts for group in unpriced)
    console.print(f"{attempts:,} attempts of the last {days} days have no price" if attempts else "all usage is priced")
    if endings:
        console.print(_endings_table(days, endings))
    if len(endings) > SHOWN_ENDINGS:
        console.print(f"{len(endings) - SHOWN_ENDINGS:,} more rates end: see --json")


def _unpriced_table(days: int, unpriced: list[Unpriced]) -> Table:
    table = _table(f"Usage of the last {days} days without a rate")
    for title in ("model", "why"):
        table.add_column(title, overflow="fold")
    for title in ("attempts", "tokens in", "out"):
        table.add_column(title, justify="right")
    for title in ("seen", "tenants", "priced now"):
        table.add_column(title, overflow="fold")
    for group in unpriced:
        place = group.place
        why = _why(Lack(place.reason, place.missing, place.input_tokens_above))
        counts = (group.attempts, group.input_tokens, group.output_tokens)
        first, last = utc(group.first_us)[:10], utc(group.last_us)[:10]
        seen = first if first == last else f"{first} to {last}"
        now = "yes" if group.lack_now is None else f"no: {_why(group.lack_now)}"
        told = (*(f"{count:,}" for count in counts), seen, escape(_tenants(group)), escape(now))
        table.add_row(escape(_where(group)), escape(why), *told)
    return table


def _where(group: Unpriced) -> str:
    """Provider and model, and what else of the calls is not the ordinary."""
    place = group.place
    model = place.model if place.served_model in ("", place.model) else f"{place.served_model} (for {place.model})"
    named = [
        f"{place.provider} {model}",
        place.service_tier and f"tier {place.service_tier}",
        "" if place.workload_class == "realtime" else place.workload_class,
        place.region and f"region {place.region}",
    ]
    return ", ".join(text for text in named if text)


def _why(lack: Lack) -> str:
    """The reason for people: bucket_without_price searches above 200,000."""
    above = f" above {lack.input_tokens_above:,}" if lack.input_tokens_above else ""
    return f"{lack.reason} {', '.join(lack.missing)}{above}".strip()


def _tenants(group: Unpriced) -> str:
    names = sorted(group.tenants)
    more = f" and {len(names) - SHOWN_TENANTS} more" if len(names) > SHOWN_TENANTS else ""
    return ", ".join(name or "none" for name in names[:SHOWN_TENANTS]) + more


def _endings_table(days: int, endings: list[Ending]) -> Table:
    table = _table(f"Rates that end within {days} days")
    for title in ("provider", "model", "tier", "class", "region", "ends"):
        table.add_column(title, overflow="fold")
    table.add_column("attempts of the model", justify="right")
    for ending in endings[:SHOWN_ENDINGS]:
        provider, model, tier, workload, region = ending.key
        named = (provider, model, tier or "standard", workload, region or "any", utc(ending.ends_us)[:16])
        table.add_row(*map(escape, named), f"{ending.attempts:,}")
    return table


def _table(title: str) -> Table:
    return plain_table(title=title)
