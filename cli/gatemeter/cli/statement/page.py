"""A statement as one HTML file: no script, nothing from elsewhere, escaped by the template engine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gatemeter.cli.statement.as_json import whole_json
from gatemeter.cli.statement.charts import Bar, bars, columns
from gatemeter.cli.statement.parts import section_parts
from gatemeter.sinks.reports.cents import apportion, format_minor
from gatemeter.sinks.reports.converted import ConvertedLine
from gatemeter.sinks.reports.money import pico_of, text_of
from gatemeter.sinks.reports.statement import COMPONENTS
from gatemeter.sinks.statements.whole import Part, Section, Statement
from gatemeter.sinks.terms.months import utc_text

SHOWN_EXCEPTIONS: Final = 25
_SHOWN_BARS: Final = 8
_BLUE, _TEAL, _PLUM = "#1f5f99", "#2b8a84", "#7a4e8f"

COMPONENT_NAMES: Final = {
    "token_cost": "Tokens",
    "model_cost": "Model fees",
    "policy_cost": "Policies, guardrails",
    "markup": "Mark-up",
    "cache_price": "Cache hits",
    "absorbed": "Absorbed by the platform",
}
assert tuple(COMPONENT_NAMES)[:-1] == COMPONENTS
STATES: Final = {
    "open": "Open: hours of this month are not sealed yet, amounts may change",
    "sealed": "Sealed: every hour is sealed, late usage and corrections may still be booked in this month",
    "closed": "Closed: this statement does not change any more",
}
_CAUSES: Final = {"late": "late usage", "revision": "revision by the gateway", "retry_rule": "rule for retries"}


def page(statement: Statement, converted: Sequence[ConvertedLine]) -> str:
    """The whole file."""
    environment = Environment(
        loader=PackageLoader("gatemeter.cli.statement", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    data = whole_json(statement, converted)
    return environment.get_template("page.html.jinja").render(
        data=data,
        month=f"{datetime.fromtimestamp(statement.month.start_us // 1_000_000, UTC):%B %Y}",
        sections=[_section(section, statement) for section in statement.sections],
        state=STATES[statement.state.state],
        causes=_CAUSES,
        shown_exceptions=SHOWN_EXCEPTIONS,
        open_disputes=sum(each["state"] == "open" for each in statement.disputes),
        rates=list(dict.fromkeys(line.conversion.text for line in converted if line.conversion is not None)),
        minor=_minor_of_exact,
    )


def _section(section: Section, statement: Statement) -> dict[str, Any]:
    """What the template shows of a currency: text only, and the charts."""
    currency, cents, counts = section.currency, section.cents, section.total.counts
    parts = {name: section_parts(section, name) for name in ("app", "workload", "model", "cost_centre")}
    models = [_bar_of(part, part.names[1] or part.names[0], currency) for part in parts["model"]]
    workloads = [_bar_of(part, part.names[1] or part.names[0], currency) for part in parts["workload"]]
    return {
        "currency": currency,
        "total": format_minor(cents["total"], currency),
        "exact": text_of(section.total.pico["total"]),
        "counts": {name: f"{value:,}" for name, value in counts.items()},
        "has": {name: bool(value) for name, value in counts.items()},
        "components": _components(section),
        "bridge": _bridge(section, statement),
        "parts": {name: [_row(part, currency) for part in each] for name, each in parts.items()},
        "top": _top(section),
        "of_total": [
            ("retries and other attempts that did not answer", _amount(section, "retry_cost")),
            ("usage whose tokens were estimated", _amount(section, "estimated_charge")),
        ],
        "charts": {
            "days": _days(section, statement),
            "components": bars(f"By component, {currency}", _component_bars(section), _TEAL),
            "models": bars(f"By model and policy, {currency}", _dearest(models, currency), _BLUE),
            "workloads": bars(f"By workload, {currency}", _dearest(workloads, currency), _PLUM, wide=True),
        },
    }


def _components(section: Section) -> list[dict[str, str]]:
    pico, cents = section.total.parts(), section.total.cents() | {"absorbed": -section.total.cents()["absorbed"]}
    return [
        {
            "name": name,
            "label": label,
            "amount": format_minor(cents[name], section.currency),
            "exact": text_of(pico[name]),
        }
        for name, label in COMPONENT_NAMES.items()
    ]


def _component_bars(section: Section) -> list[Bar]:
    pico = section.total.parts()
    return [Bar(each["label"], pico[each["name"]], each["amount"]) for each in _components(section)]


def _bridge(section: Section, statement: Statement) -> list[dict[str, str]]:
    """Usage of the month, and what is booked in it for earlier ones."""
    period = statement.month.period
    earlier = sum(line.total for line in section.lines if line.usage_period < period)
    parts = {"usage": section.total.pico["total"] - earlier, "earlier": earlier}
    cents = apportion(parts, section.currency)
    labels = {"usage": f"Usage of {period}", "earlier": "Corrections and late usage of closed months"}
    return [
        {
            "name": name,
            "label": labels[name],
            "amount": format_minor(cents[name], section.currency),
            "exact": text_of(pico),
        }
        for name, pico in parts.items()
    ]


def _row(part: Part, currency: str) -> dict[str, Any]:
    return {
        "names": part.names,
        "requests": "" if part.requests is None else f"{part.requests:,}",
        "attempts": f"{part.attempts:,}",
        "decisions": f"{part.decisions:,}",
        "tokens": f"{part.tokens:,}",
        "unpriced": f"{part.unpriced:,}",
        "amount": format_minor(part.cents, currency),
        "exact": text_of(part.pico),
    }


def _top(section: Section) -> list[dict[str, Any]]:
    return [
        {
            "request_id": each.request_id,
            "gateway_id": each.gateway_id,
            "hour": utc_text(each.hour_us)[:16].replace("T", " "),
            "who": each.workload_id or each.app_id,
            "models": ", ".join(each.models),
            "attempts": f"{each.attempts:,}",
            "tokens": f"{each.input_tokens + each.output_tokens:,}",
            "exact": text_of(each.pico).rstrip("0").rstrip("."),
        }
        for each in section.top
    ]


def _amount(section: Section, name: str) -> str:
    return _minor(section.total.pico[name], section.currency)


def _days(section: Section, statement: Statement) -> Markup:
    """Spend by the day of usage; what is booked for earlier months has no day in this one."""
    month = statement.month
    by_day: dict[int, int] = {}
    for line in section.lines:
        if line.usage_period == month.period:
            by_day[line.day.day] = by_day.get(line.day.day, 0) + line.total
    days = range(1, month.hours // 24 + 1)
    drawn = [Bar(str(day), by_day.get(day, 0), _minor(by_day.get(day, 0), section.currency)) for day in days]
    return columns(f"By day of usage (UTC), {section.currency}", drawn, section.currency, _BLUE)


def _bar_of(part: Part, label: str, currency: str) -> Bar:
    return Bar(label, part.pico, format_minor(part.cents, currency))


def _dearest(rows: Sequence[Bar], currency: str) -> list[Bar]:
    if len(rows) <= _SHOWN_BARS:
        return list(rows)
    others = sum(row.pico for row in rows[_SHOWN_BARS - 1 :])
    return [*rows[: _SHOWN_BARS - 1], Bar(f"{len(rows) - _SHOWN_BARS + 1} others", others, _minor(others, currency))]


def _minor(pico: int, currency: str) -> str:
    return format_minor(apportion({"": pico}, currency)[""], currency)


def _minor_of_exact(amount: str | None, currency: str) -> str:
    """An exact amount as text, rounded for reading; '' for null."""
    if not amount:
        return ""
    return _minor(pico_of(Decimal(amount)), currency)
