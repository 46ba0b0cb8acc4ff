"""`gatemeter adjust`: one correction by hand, with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import typer

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli import operator_options as ops
from gatemeter.cli.correcting import (
    AsJson,
    DryRun,
    EventsTopic,
    Way,
    Why,
    Yes,
    carry_out,
    one_line_errors,
    shown,
    usage_hour,
)
from gatemeter.processors.corrections.adjust import Manual, amount_of, find_row, free_entry, replacing_row
from gatemeter.processors.corrections.evidenced import evidenced_entry, find_unmetered
from gatemeter.processors.corrections.rows import AMOUNTS, ATTRIBUTION, CorrectionError, CorrectionRow
from gatemeter.processors.corrections.summary import Summary
from gatemeter.processors.corrections.truths import Truth
from gatemeter.processors.sealing.hours import utc
from gatemeter.processors.sealing.periods import is_period
from gatemeter.schemas.partitions import EVENTS_TOPIC
from gatemeter.sinks.clickhouse import connect

_FREE: Final = "an entry of its own"


@one_line_errors
def adjust(
    reason: Why,
    request: Annotated[str, typer.Option("--request", help="Replace the amounts of this request's attempt.")] = "",
    attempt: Annotated[int, typer.Option("--attempt", help="Attempt of --request.")] = 1,
    decision: Annotated[str, typer.Option("--decision", help="Replace the amounts of this policy decision.")] = "",
    gateway: Annotated[str, typer.Option("--gateway", help="Gateway, where several share the id.")] = "",
    evidence: Annotated[
        str, typer.Option("--evidence", help="Charge this call of the view unmetered_calls: its place.")
    ] = "",
    hour: Annotated[str, typer.Option("--hour", help="Hour of usage of an entry of its own, UTC.")] = "",
    period: Annotated[str, typer.Option("--period", help="Instead of --hour: YYYY-MM, its first hour.")] = "",
    tenant: Annotated[str, typer.Option("--tenant", help="Tenant that bears it.")] = "",
    app: Annotated[str, typer.Option("--app", help="Application.")] = "",
    workload: Annotated[str, typer.Option("--workload", help="Workload.")] = "",
    cost_centre: Annotated[str, typer.Option("--cost-centre", help="Cost centre.")] = "",
    business_unit: Annotated[str, typer.Option("--business-unit", help="Business unit.")] = "",
    organisation: Annotated[str, typer.Option("--organisation", help="Organisation.")] = "",
    currency: Annotated[str, typer.Option("--currency", help="ISO 4217 code; of a row its own if not given.")] = "",
    list_cost: Annotated[str, typer.Option("--list-cost", help="Public price; decimal text, as all amounts.")] = "",
    token_cost: Annotated[str, typer.Option("--token-cost", help="Provider's price of tokens.")] = "",
    model_cost: Annotated[str, typer.Option("--model-cost", help="Provider's fees.")] = "",
    policy_cost: Annotated[str, typer.Option("--policy-cost", help="Cost of guardrails.")] = "",
    markup: Annotated[str, typer.Option("--markup", help="Mark-up; negative for a credit.")] = "",
    cache_price: Annotated[str, typer.Option("--cache-price", help="Price of an answer out of the cache.")] = "",
    internal: Annotated[
        bool | None,
        typer.Option(
            "--internal-policy-cost/--provider-policy-cost",
            help="Whether the platform bills the policy cost itself, or a provider does.",
        ),
    ] = None,
    absorbed: Annotated[str, typer.Option("--absorbed", help="What the tenant does not pay of it.")] = "",
    absorbed_to: Annotated[str, typer.Option("--absorbed-to", help="Cost centre that pays what is absorbed.")] = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
    bootstrap: ops.Bootstrap = ops.DEFAULT_BOOTSTRAP,
    operator_key: ops.OperatorKeyFile = ops.DEFAULT_OPERATOR_KEY,
    operator_keys: ops.OperatorKeysFile = None,
    kafka_config: ops.KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
) -> None:
    """Post one entry by hand, or other amounts for one attempt or decision. The charge follows from its components.

    charge = token + model + policy + mark-up + cache price - absorbed; what is not given is 0, or stays where a row is
    named.

    Example: gatemeter adjust --tenant acme --period 2026-11 --currency USD --markup -12.50 --reason "outage on the 3rd"
    """
    amounts = {"list_cost": list_cost, "token_cost": token_cost, "model_cost": model_cost}
    amounts |= {"policy_cost": policy_cost, "markup": markup, "cache_price": cache_price, "absorbed": absorbed}
    given = {name: amount_of(f"--{name.replace('_', '-')}", text) for name, text in amounts.items() if text}
    who = dict(zip(ATTRIBUTION, (tenant, app, workload, cost_centre, business_unit, organisation), strict=True))
    manual = Manual(reason, given, who, currency, absorbed_to, internal)
    target, named = ("decision", decision) if decision else ("usage", request)
    if sum(map(bool, (request, decision, evidence))) > 1:
        raise CorrectionError("--request, --decision, --evidence: one of them must be given, not several")
    hour_us = None if named or evidence else _hour(hour, period)
    if (named or evidence) and (hour or period):
        raise CorrectionError("--hour, --period: the row that is named has its own hour")
    where = ch.settings(url, user, password, password_file, database)
    connection = ops.connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic)
    summary = Summary()
    way = Way(dry_run, yes, as_json)

    def rows(run_id: str) -> Iterator[CorrectionRow]:
        client = connect(where)
        try:
            truth = find_row(client, target, named, attempt, gateway) if named else None
            call = find_unmetered(client, evidence) if evidence else None
        finally:
            client.close()
        if call is not None:
            row = evidenced_entry(run_id, call, manual)
            summary.add_free(row)
        elif truth is None:
            row = free_entry(run_id, hour_us or 0, manual)
            summary.add_free(row)
        else:
            row = replacing_row(run_id, truth, manual)
            summary.add(truth, row)
        if not as_json:
            _print(row, truth)
        yield row

    carry_out(connection, where, rows, summary, way)


def _hour(hour: str, period: str) -> int:
    if bool(hour) == bool(period):
        raise CorrectionError("--hour or --period must be given, one of them, or a row with --request or --decision")
    if hour:
        return usage_hour("--hour", hour)
    if not is_period(period):
        raise CorrectionError(f"--period must be YYYY-MM, got {period!r}")
    return usage_hour("--period", f"{period}-01")


def _print(row: CorrectionRow, truth: Truth | None) -> None:
    """What will be posted, field by field."""
    names = f"{row.target} {row.request_id} attempt {row.attempt} of {row.gateway_id}"
    ops.console.print(f"{_FREE if truth is None else names}, usage of {utc(row.usage_hour)}", markup=False)
    for name, value in row.attribution.items():
        if value is not None:
            ops.console.print(f"  {name}: {value}", markup=False)
    now = {} if truth is None else truth.amounts
    for name in AMOUNTS:
        new, old = row.amounts[name], now.get(name)
        change = f" (was {_text(old)})" if truth is not None and new != old else ""
        ops.console.print(f"  {name}: {_text(new)} {row.currency}{change}", markup=False)
    if row.evidence_place:
        ops.console.print(f"  evidence: {row.evidence_place}", markup=False)
    if row.absorbed_to:
        ops.console.print(f"  absorbed_to: {row.absorbed_to}", markup=False)
    ops.console.print(f"  reason: {row.reason}", markup=False)


def _text(pico: int | None) -> str:
    return "unknown" if pico is None else shown(pico)
