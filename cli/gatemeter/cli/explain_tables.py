"""An explanation for people: events, lines and rules of each attempt and decision, who pays, postings, the sum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gatemeter.cli.correcting import shown
from gatemeter.cli.screen import plain_table
from gatemeter.processors.explaining.attribution import PATH, Path
from gatemeter.processors.explaining.explanation import COMPONENTS, Explanation, Item, Total
from gatemeter.processors.explaining.lines import Line
from gatemeter.processors.explaining.reckoning import PolicySource, Reckoned
from gatemeter.processors.explaining.terms import RateSource
from gatemeter.processors.explaining.wording import percent
from gatemeter.processors.metadata.entries import Dated
from gatemeter.processors.metadata.identities import Identity
from gatemeter.processors.sealing.hours import utc
from gatemeter.sinks.reports.requests import RequestRows, Row

MILLION: Final = 1_000_000
_LABELS: Final = {
    **{"token_cost": "tokens", "model_cost": "model", "policy_cost": "policy"},
    **{"markup": "mark-up", "cache_price": "cache"},
}
_STEPS: Final = dict(
    zip(PATH, ("organisation", "unit", "cost centre", "tenant", "app", "workload", "credential"), strict=True)
)


def explanation_tables(explanation: Explanation) -> Iterator[RenderableType]:
    """One request, in the order in which it is read."""
    yield _head(explanation)
    yield _events(explanation)
    for item in (*explanation.attempts, *explanation.decisions):
        yield from _item(item)
    yield from _paths(explanation.paths)
    yield from _booked(explanation.rows)
    yield from _remarks(explanation.rows)
    yield _sums(explanation.totals)
    yield _verdict(explanation)


def list_table(explained: Sequence[Explanation]) -> Table:
    """Requests of a list, one row each and currency."""
    table = _table("Requests", request="", started="fold", tenant="fold", model="fold")
    for column in ("attempts", "decisions", "charge", "cur."):
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("adds up")
    for each in explained:
        models = sorted({item.fact["served_model"] or item.fact["model"] for item in each.attempts})
        counts = str(len(each.attempts)), str(len(each.decisions))
        started = utc(each.head["request_started_at"])
        for total in each.totals:
            charge = _unless_unknown(total)
            row = (each.request_id, started, each.head["tenant_id"], ", ".join(models), *counts)
            table.add_row(*map(escape, row), charge, total.currency or "none", "yes" if each.adds_up else "NO")
    return table


def _unless_unknown(total: Total) -> str:
    """A total in which nothing has an amount is not zero."""
    return "unknown" if total.without_amount == total.items else shown(total.money["charge"])


def _head(explanation: Explanation) -> Text:
    head, lines = explanation.head, [f"Request {explanation.request_id} of gateway {explanation.gateway_id}"]
    if "request_started_at" in head:
        lines.append(f"started {utc(head['request_started_at'])}")
    names = (
        *("trace_id", "parent_request_id", "idempotency_key", "client_request_id"),
        *("client_network", "end_user", "route"),
    )
    lines += [f"{name} {head[name]}" for name in names if head.get(name)]
    prices = explanation.prices_from
    lines.append(f"prices: metadata log {prices}, at the view of each record" if prices else "prices: not asked for")
    return Text("\n".join(lines))


def _events(explanation: Explanation) -> Table:
    table = _table(
        "Events", kind="", **{"occurred\nrecorded": ""}, record="fold", sequence="fold", evidence="", view=""
    )
    for event in explanation.events:
        kind = f"{event.kind} {event.attempt or ''}".rstrip()
        more = [f"revision {event.usage_revision}"] if event.usage_revision else []
        more += [] if event.counts else ["superseded"]
        table.add_row(
            escape("\n".join([kind, *more])),
            f"{utc(event.occurred_at_us)}\n{utc(event.recorded_at_us)}",
            escape(f"{event.place}, event {event.event_index}\nkey {event.kid}"),
            escape(f"{event.sequence} of epoch\n{event.epoch}"),
            escape(f"grade {event.evidence_grade}\n{event.identity_source}"),
            str(event.metadata_offset),
        )
    return table


def _item(item: Item) -> Iterator[RenderableType]:
    title, reckoned = _title(item), item.reckoned
    if reckoned is not None and reckoned.lines:
        yield _lines(title, reckoned.lines, reckoned, item.standing.currency)
    else:
        yield Text(f"\n{title}", style="italic")
    correction = item.standing.correction
    told = [*item.rules]
    if reckoned is not None:
        told += _terms(reckoned)
        told += _saved(reckoned)
    if correction is not None:
        told.append(
            f"corrected by run {correction.run_id} ({correction.cause}, {correction.kid}): {correction.reason}; "
            f"{_amounts(correction.money)}"
        )
    told.append(f"row: {_amounts(item.recorded)}")
    if item.standing.counted.money != item.recorded:
        told.append(f"counts: {_amounts(item.standing.counted.money)}")
    yield _bullets(told)
    if correction is not None and correction.lines:
        yield _lines("The same, repriced", correction.lines, None, item.standing.currency)
    for problem in item.problems:
        yield Text(f"  DOES NOT ADD UP: {problem}", style="bold red")


def _saved(reckoned: Reckoned) -> list[str]:
    saved = reckoned.savings
    if saved is None:
        return []
    avoided = f"avoided, in no total: {saved.input_tokens or 0:,} input and {saved.output_tokens or 0:,} output tokens"
    if saved.provider_pico is None or saved.charge_pico is None:
        return [f"{avoided}; what that saved is not known: {saved.reason}"]
    tenant = saved.charge_pico - (reckoned.reckoned["charge"] or 0)
    return [
        f"{avoided}; the platform saved {shown(saved.provider_pico)} at provider price, "
        f"the tenant {shown(tenant)} of a charge of {shown(saved.charge_pico)}"
    ]


def _title(item: Item) -> str:
    fact = item.fact
    if item.kind == "decision":
        cost = f", {_seconds(fact['latency_us'])}" if fact["latency_us"] is not None else ""
        version = f" version {fact['policy_version']}" if fact["policy_version"] else ""
        return f"Decision {fact['decision_id']}: policy {fact['policy_id']}{version}: {fact['outcome']}{cost}"
    role = item.standing.role or "no role"
    parts = [f"Attempt {fact['attempt']}: {role}", f"{fact['provider']} {fact['model']}", fact["status"]]
    parts += [f"HTTP {fact['http_status']}"] if fact["http_status"] is not None else []
    parts += [f"{_seconds(fact['latency_us'])} ({fact['latency_class']})"] if fact["latency_us"] is not None else []
    parts += [f"first token after {_seconds(fact['ttft_us'])}"] if fact["ttft_us"] is not None else []
    return ", ".join(parts)


def _seconds(us: int) -> str:
    """Microseconds as milliseconds with all digits."""
    whole, rest = divmod(us, 1_000)
    return f"{whole:,}" + (f".{rest:03}".rstrip("0") if rest else "") + " ms"


def _lines(title: str, lines: Sequence[Line], reckoned: Reckoned | None, currency: str) -> Table:
    table = _table(f"\n{title}", component="", what="")
    for column in ("quantity", "per", "list price", "= list", "provider price", "= provider"):
        table.add_column(column, justify="right", overflow="fold")
    for line in lines:
        table.add_row(
            _LABELS[line.component],
            line.name,
            f"{line.quantity:,}",
            "million" if line.unit == "token" else line.unit,
            _price(line, line.list_price_pico),
            _or_none(line.list_pico),
            _price(line, line.provider_price_pico),
            _or_none(line.provider_pico),
        )
    for markup in reckoned.markups if reckoned else ():
        base, share = shown(markup.base_pico), percent(markup.ppm)
        table.add_row("mark-up", f"on {markup.of}", base, "", "", "", share, shown(markup.pico))
    table.caption = f"amounts in {currency or 'no currency'}"
    table.caption_justify = "left"
    return table


def _price(line: Line, pico: int | None) -> str:
    """Tokens by the million, all else by the unit; every digit."""
    if pico is None:
        return "none"
    return shown(pico * MILLION if line.unit == "token" else pico)


def _or_none(pico: int | None) -> str:
    return "unknown" if pico is None else shown(pico)


def _terms(reckoned: Reckoned) -> list[str]:
    told = []
    if isinstance(reckoned.source, RateSource):
        source = reckoned.source
        told.append(f"rate card {source.card_id}, hash {source.content_hash}")
        told.append(f"prices of {source.source}; published by {source.published_by} at offset {source.metadata_offset}")
        told.append(f"the line holds {_dates(source)}, of workload class {source.workload_class}")
    elif isinstance(reckoned.source, PolicySource):
        source_id = reckoned.source.prices_id
        told.append(f"price list {source_id}, holds {_dates(reckoned.source)}, billed by {reckoned.source.billed_by}")
    applied, plan = reckoned.plan, reckoned.plan.plan
    claimed = "accepts" if plan.accept_claimed_identity else "does not accept"
    cache = f" {plan.cache_price_ppm:,} ppm" if plan.cache_price_ppm else ""
    told.append(
        f"plan {plan.plan_id} ({_dates(applied)}): mark-up {plan.markup_ppm:,} ppm, {plan.retry_rule}, "
        f"cache {plan.cache_rule}{cache}, {claimed} a claimed identity"
    )
    return told


def _dates(dated: Dated) -> str:
    """A half-open span in words."""
    start = "from the beginning" if dated.effective_from_us == 0 else f"from {utc(dated.effective_from_us)}"
    return f"{start} on" if dated.effective_to_us is None else f"{start} to {utc(dated.effective_to_us)}"


def _amounts(money: Any) -> str:
    if money["charge"] is None:
        return "amounts unknown"
    parts = " + ".join(f"{_LABELS[name]} {shown(money[name])}" for name in _components(money))
    return f"{parts} - absorbed {shown(money['absorbed'])} = charge {shown(money['charge'])}"


def _components(*each: Mapping[str, int | None]) -> tuple[str, ...]:
    """The components to show: a cache price only where there is one."""
    priced = any(money["cache_price"] for money in each)
    return tuple(name for name in COMPONENTS if priced or name != "cache_price")


def _bullets(told: Sequence[str]) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=3, justify="right")
    grid.add_column(overflow="fold")
    for text in told:
        grid.add_row("•", escape(text))
    return grid


def _paths(paths: Sequence[Path]) -> Iterator[RenderableType]:
    for path in paths:
        steps = [f"{_STEPS[name]} {path.steps[name]}" for name in PATH if path.steps[name]]
        yield Text(f"\nWho pays ({path.attribution}{', corrected' if path.corrected else ''})", style="italic")
        told = [" → ".join(steps)]
        if path.tenant_from_us is not None:
            name = f"{path.tenant_name}, " if path.tenant_name else ""
            dates = Dated(effective_from_us=path.tenant_from_us, effective_to_us=path.tenant_to_us)
            told.append(f"tenant's record: {name}{_dates(dates)}")
        if path.found_by not in ("", "tenant"):
            told.append(f"no tenant was named: it is that of the verified, registered {path.found_by}")
        for identity in path.identities:
            said = [f"of {identity.tenant_id}", f"owner {identity.owner}", *life_of(identity)]
            told.append(f"{identity.kind} {identity.identity_id}: {', '.join(said)}")
        if path.note and path.found_by:
            told.append(f"{path.note.replace('_', ' ')}: charged all the same, and an exception")
        yield _bullets(told)


def life_of(identity: Identity) -> list[str]:
    """When a registered identity was issued, rotated, expires, was offboarded: what is known of it, in words."""
    life = {
        "issued": identity.issued_at_us,
        "rotated": identity.rotated_at_us,
        "expires": identity.expires_at_us,
        "offboarded": identity.offboarded_at_us,
    }
    return [f"{what} {utc(at_us)}" for what, at_us in life.items() if at_us is not None]


def _booked(rows: RequestRows) -> Iterator[RenderableType]:
    yield Text("\nWhere it is booked", style="italic")
    told = []
    for hour in sorted({row["posted_hour"] for row in (*rows.usage, *rows.decisions)}):
        seal = rows.seals.get(hour)
        sealed = "open hour" if seal is None else f"seal {seal['number']} {seal['seal_id']} of {utc(seal['sealed_us'])}"
        told.append(f"{utc(hour)}: {sealed}")
    for row in rows.corrections:
        sealed = "" if row["committed_hour"] in rows.seals else ", which is open: it does not count yet"
        told.append(
            f"correction {row['run_id']} ({row['cause']}) of {row['target']} {row['attempt'] or row['request_id']}, "
            f"committed in {utc(row['committed_hour'])}{sealed}: {row['reason']}"
        )
    yield _bullets(told)
    if rows.ledger:
        table = _table("\nLedger entries", **{"seal hour : entry": ""}, line="fold", cause="fold")
        table.add_column("charge", justify="right", overflow="fold")
        table.add_column("absorbed", justify="right", overflow="fold")
        table.add_column("booked in")
        for row in rows.ledger:
            line = f"decision {row['decision_id']}" if row["kind"] == "decision" else f"attempt {row['attempt']}"
            cause = f"{row['cause']}, reversal" if row["reverses"] else row["cause"]
            place = f"{utc(row['posted_hour'])} : {row['entry']}"
            amounts = _or_none(row["charge"]), _or_none(row["absorbed"])
            table.add_row(place, escape(line), escape(cause), *amounts, row["posting_period"])
        yield table


def _remarks(rows: RequestRows) -> Iterator[RenderableType]:
    told = [
        f"exception {row['kind']} at {row['topic']}[{row['partition']}]@{row['offset']}, attempt {row['attempt']}: "
        f"{row['detail']}"
        for row in rows.exceptions
    ]
    told += [f"attempt {row['attempt']} contradicts itself (attempt_conflicts)" for row in rows.conflicts]
    told += [
        f"evaluates decision {row['decision_id']} ({row['policy_id']}) of request {row['request_id']}: its cost is here"
        for row in rows.evaluates
    ]
    told += [f"same workload and idempotency key: request {sibling}" for sibling in rows.siblings]
    told += [_group(row) for row in rows.groups if row["requests"] > 1]
    if told:
        yield Text("\nRemarks", style="italic")
        yield _bullets(told)


def _group(row: Row) -> str:
    said = f"retry group {row['idempotency_key']}: {row['requests']:,} requests, {row['attempts']:,} attempts"
    if row["charge"] is None or row["repeated_charge"] is None:
        return f"{said}, what they cost together is not known ({', '.join(row['currencies']) or 'no currency'})"
    answered = f"{row['answered_by_request']} answered last" if row["answered_by_request"] else "none answered"
    repeated = f"of which {shown(row['repeated_charge'])} for what was tried again"
    return f"{said}, charge {shown(row['charge'])} {row['currencies'][0]}, {repeated}; {answered}"


def _sums(totals: Sequence[Total]) -> Table:
    table = _table("\nThe sum", component="")
    for total in totals:
        table.add_column(total.currency or "no currency", justify="right", no_wrap=True)
    for name in _components(*(total.money for total in totals)):
        table.add_row(_LABELS[name], *(shown(total.money[name]) for total in totals))
    table.add_row("- absorbed", *(shown(total.money["absorbed"]) for total in totals), end_section=True)
    table.add_row("= charge", *(shown(total.money["charge"]) for total in totals), end_section=True)
    table.add_row("of which retries", *(shown(total.retry_cost) for total in totals))
    table.add_row("at list price", *(shown(total.money["list_cost"]) for total in totals))
    table.add_row("at provider price", *(shown(total.money["provider_cost"]) for total in totals))
    table.add_row("without an amount", *(f"{total.without_amount} of {total.items}" for total in totals))
    return table


def _verdict(explanation: Explanation) -> Text:
    if explanation.problems:
        lines = [f"DOES NOT ADD UP: {problem}" for problem in explanation.problems]
        return Text("\n".join(lines), style="bold red")
    sums = [_sum(total) for total in explanation.totals if total.without_amount < total.items]
    what = "calculated again from tokens and prices" if explanation.prices_from else "as recorded, prices not looked up"
    return Text(f"check: {'; '.join(sums) or 'nothing has an amount'}: adds up ({what})", style="bold")


def _sum(total: Total) -> str:
    parts = " + ".join(shown(total.money[name]) for name in _components(total.money))
    absorbed, charge = shown(total.money["absorbed"]), shown(total.money["charge"])
    return f"{parts} - {absorbed} = {charge} {total.currency}".rstrip()


def _table(title: str, **columns: str) -> Table:
    """Columns with how they overflow; '' never does."""
    table = plain_table(title=title)
    for column, overflow in columns.items():
        table.add_column(column, no_wrap=not overflow, overflow="fold")
    return table
