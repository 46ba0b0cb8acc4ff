"""Runs as rows of ClickHouse: written whole, read back, compared, and never changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.reconciling.amounts import variance
from gatemeter.processors.reconciling.causes import BY_NAME
from gatemeter.processors.reconciling.grain import Grain, grain_of
from gatemeter.processors.reconciling.running import Run
from gatemeter.processors.reconciling.settings import ReconcileError, Settings, settings_of_json
from gatemeter.processors.reconciling.sides import Key
from gatemeter.sinks.reports.money import pico_of, text_of
from gatemeter.sinks.rows import insert_rows, query_rows
from gatemeter.sinks.terms.months import moment_of

KEEPING: Final = "keep a reconciliation"
_RUN_COLUMNS: Final = (
    *("run_id", "made_at", "made_by", "provider", "period", "workload_class", "calendar", "currency", "facts_through"),
    *("imports", "provider_cost", "estimated_cost", "invoiced", "causes", "settings"),
)
_LINE_COLUMNS: Final = (
    *("run_id", "line", "billing_day", "scope", "model", "token_type", "service_tier", "workload_class"),
    *("gateway_quantity", "estimated_quantity", "invoiced_quantity", "gateway_cost", "invoiced_cost", "variance"),
)
_FINDING_COLUMNS: Final = (
    *("run_id", "finding", "line", "cause", "action", "billing_day", "scope", "model", "token_type", "service_tier"),
    *("workload_class", "quantity", "amount", "evidence"),
)


def keep(client: Client, run: Run, made_by: str) -> None:
    """Writes a run: lines and findings first, the run's own row last; it counts from then on.

    Raises `SinkUnavailable`, `SinkRefused`.
    """
    numbers = {key: number for number, key in enumerate(run.keys)}
    insert_rows(
        client,
        "reconciliation_lines",
        _LINE_COLUMNS,
        [_line(run, number, key) for key, number in numbers.items()],
        KEEPING,
    )
    found = [
        (
            *(
                run.run_id,
                number,
                -1 if each.key is None else numbers[each.key],
                each.cause,
                BY_NAME[each.cause].action,
            ),
            *(each.day, each.scope, each.model, *(each.key[3:] if each.key else ("", "", ""))),
            *(_quantity(each.quantity), _decimal(each.amount), json.dumps(each.evidence, sort_keys=True)),
        )
        for number, each in enumerate(run.findings)
    ]
    insert_rows(client, "reconciliation_findings", _FINDING_COLUMNS, found, KEEPING)
    causes = {cause: {"amount": text_of(amount), "findings": n} for cause, (amount, n) in sorted(run.by_cause.items())}
    row = (
        *(
            run.run_id,
            moment_of(run.made_at_us),
            made_by,
            run.wanted.provider,
            run.wanted.period,
            run.wanted.workload_class,
        ),
        *(run.settings.calendar, run.currency, moment_of(run.facts_through_us), list(run.imports)),
        *(_decimal(run.provider_cost), _decimal(run.estimated_cost), _decimal(run.invoiced)),
        *(json.dumps(causes), json.dumps(run.settings.as_json(), default=str)),
    )
    insert_rows(client, "reconciliation_runs", _RUN_COLUMNS, [row], KEEPING)


def _line(run: Run, number: int, key: Key) -> tuple[Any, ...]:
    metered, invoiced = run.sides.metered.get(key), run.sides.invoiced.get(key)
    return (
        *(run.run_id, number, *key),
        *((None, None) if metered is None else (metered.quantity, metered.estimated)),
        None if invoiced is None else invoiced.quantity,
        None if metered is None else _decimal(metered.cost),
        None if invoiced is None or invoiced.cost is None else _decimal(invoiced.cost),
        _decimal(variance(run.sides, key)),
    )


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A run as it was kept; amounts in 10⁻¹². `state`: open, accepted, superseded."""

    run_id: str
    made_at: datetime
    made_by: str
    provider: str
    period: str
    workload_class: str
    currency: str
    provider_cost: int
    estimated_cost: int
    invoiced: int
    causes: Mapping[str, Mapping[str, Any]]
    settings: Settings
    state: str


@dataclass(frozen=True, slots=True)
class KeptFinding:
    """A finding as it was kept; the amount in 10⁻¹²."""

    line: int
    cause: str
    action: str
    day: date
    scope: str
    model: str
    token_type: str
    service_tier: str
    workload_class: str
    quantity: Decimal | None
    amount: int
    evidence: Mapping[str, Any]


_RUNS: Final = """
SELECT r.run_id AS run_id, made_at, made_by, provider, period, workload_class, currency, provider_cost, estimated_cost,
    invoiced, causes, settings, s.state AS state
FROM (SELECT * FROM reconciliation_runs FINAL) AS r
INNER JOIN reconciliation_states AS s ON r.run_id = s.run_id
WHERE ({run:String} = '' OR r.run_id = {run:String}) AND ({provider:String} = '' OR provider = {provider:String})
    AND ({period:String} = '' OR period = {period:String})
ORDER BY r.run_id DESC
"""
_FINDINGS: Final = """
SELECT line, cause, action, billing_day AS day, scope, model, token_type, service_tier, workload_class, quantity,
amount, evidence FROM (SELECT * FROM reconciliation_findings FINAL)
WHERE run_id = {run:String}
ORDER BY finding
"""


_MODELS: Final = """
SELECT DISTINCT model FROM reconciliation_lines
WHERE run_id = {run:String} AND (invoiced_quantity IS NOT NULL OR invoiced_cost IS NOT NULL)
"""


def kept_runs(client: Client, provider: str = "", period: str = "", run_id: str = "") -> list[KeptRun]:
    """Runs, the newest first; '' for all. Raises `SinkUnavailable`, `SinkRefused`."""
    rows = query_rows(client, "read the runs", _RUNS, {"run": run_id, "provider": provider, "period": period})
    return [_kept_run(row) for row in rows]


def kept_run(client: Client, run_id: str) -> KeptRun:
    """One run. Raises `ReconcileError` where there is none of this id."""
    found = kept_runs(client, run_id=run_id) if run_id else []
    if not found:
        raise ReconcileError(f"there is no reconciliation run {run_id!r}: gatemeter reconciliations list")
    return found[0]


def billed_models(client: Client, run_id: str) -> Grain:
    """The models of a run as the provider's lines have them."""
    rows = query_rows(client, "read the models", _MODELS, {"run": run_id})
    return grain_of((row["model"] for row in rows), ())


def kept_findings(client: Client, run_id: str) -> list[KeptFinding]:
    """The findings of a run, in order of days. Raises `SinkUnavailable`, `SinkRefused`."""
    rows = query_rows(client, "read the findings", _FINDINGS, {"run": run_id})
    return [
        KeptFinding(**{**row, "amount": pico_of(row["amount"]), "evidence": json.loads(row["evidence"])})
        for row in rows
    ]


def _kept_run(row: Mapping[str, Any]) -> KeptRun:
    amounts = {name: pico_of(row[name]) for name in ("provider_cost", "estimated_cost", "invoiced")}
    said = {"causes": json.loads(row["causes"]), "settings": settings_of_json(json.loads(row["settings"]))}
    return KeptRun(**{**row, **amounts, **said})


@dataclass(frozen=True, slots=True)
class Change:
    """What a cause came to in two runs, by scope and model; amounts in 10⁻¹²."""

    cause: str
    scope: str
    model: str
    before: int
    after: int


def changes(before: Iterable[KeptFinding], after: Iterable[KeptFinding]) -> list[Change]:
    """What differs between the findings of two runs."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    for place, found in enumerate((before, after)):
        for each in found:
            sums.setdefault((each.cause, each.scope, each.model), [0, 0])[place] += each.amount
    return [Change(*key, *both) for key, both in sorted(sums.items()) if both[0] != both[1]]


def _decimal(pico: int) -> Decimal:
    return Decimal(text_of(pico))


def _quantity(quantity: Fraction | None) -> Decimal | None:
    """A quantity to twelve digits after the point."""
    return None if quantity is None else _decimal(round(quantity * 10**12))
