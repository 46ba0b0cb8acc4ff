"""Who used a provider in a period, and by which way the calls went: what shares and coverage are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.rows import ATTRIBUTION
from gatemeter.processors.reconciling.grain import Grain
from gatemeter.processors.reconciling.metered import (
    COLUMNS,
    OF_THE_PROVIDER,
    Span,
    has_corrections,
    read,
    slices_of,
    true_attempts,
)
from gatemeter.processors.reconciling.posting import Use, bearer_of
from gatemeter.processors.reconciling.running import Run
from gatemeter.processors.reconciling.settings import Settings
from gatemeter.sinks.reports.money import pico_of

_MODEL: Final = "if(served_model = '', model, served_model)"


def _grouped(client: Client, span: Span, names: Sequence[str], currency: str) -> Iterator[Mapping[str, Any]]:
    columns = tuple(dict.fromkeys((*COLUMNS, *ATTRIBUTION, "attribution")))
    attempts = true_attempts(columns, OF_THE_PROVIDER, corrected=has_corrections(client))
    chosen = ", ".join(names)
    query = (
        f"SELECT {chosen}, {_MODEL} AS billed_model, sum(a.provider_cost) AS cost, count() AS attempts "
        f"FROM ({attempts}) AS a WHERE currency = {{currency:String}} GROUP BY {chosen}, billed_model"
    )
    slices = slices_of(client)
    for number in range(slices):
        yield from read(client, query, {**span.asked, "currency": currency, "slices": slices, "slice": number})


def uses(client: Client, span: Span, settings: Settings, grain: Grain, currency: str) -> list[Use]:
    """What each bearer used, by scope and model; of what nobody bears it is the platform.

    Raises `SinkUnavailable`, `SinkRefused`.
    """
    names = tuple(dict.fromkeys((*ATTRIBUTION, "attribution", *settings.traffic_columns)))
    return [
        Use(bearer_of(row), settings.scope_of_traffic(row), grain.model(row["billed_model"]), pico_of(row["cost"]))
        for row in _grouped(client, span, names, currency)
    ]


@dataclass(frozen=True, slots=True)
class Path:
    """Metered use of a model by one gateway and route; the cost in 10⁻¹²."""

    gateway_id: str
    route: str
    cost: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of what a provider billed for a model's use has facts; amounts in 10⁻¹².

    `covered`: the part of `invoiced` that was metered, line by line: use that was metered and not billed covers
    nothing.
    """

    scope: str
    model: str
    invoiced: int
    covered: int
    paths: tuple[Path, ...]

    @property
    def gap(self) -> int:
        """What was billed and has no facts."""
        return self.invoiced - self.covered


def coverage(run: Run, paths: Mapping[tuple[str, str], Iterable[Path]]) -> list[Coverage]:
    """By scope and model, the largest gap first."""
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    unmetered: dict[Any, int] = defaultdict(int)
    for finding in run.findings:
        if finding.key is not None and finding.cause == "unmetered":
            unmetered[finding.key] += finding.amount
    for key in run.keys:
        invoiced = run.sides.invoiced.get(key)
        if invoiced is not None and invoiced.cost:
            total = sums[key.scope, key.model]
            total[0] += invoiced.cost
            total[1] += invoiced.cost - unmetered[key]
    found = [
        Coverage(scope, model, invoiced, covered, tuple(sorted(paths.get((scope, model), ()), key=lambda p: -p.cost)))
        for (scope, model), (invoiced, covered) in sums.items()
    ]
    return sorted(found, key=lambda each: (-each.gap, each.scope, each.model))


def paths_of(
    client: Client, span: Span, settings: Settings, grain: Grain, currency: str
) -> dict[tuple[str, str], list[Path]]:
    """Gateways and routes of what was metered, by scope and model. Raises `SinkUnavailable`, `SinkRefused`."""
    names = tuple(dict.fromkeys(("gateway_id", "route", *settings.traffic_columns)))
    found: dict[tuple[str, str], dict[tuple[str, str], list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for row in _grouped(client, span, names, currency):
        place = settings.scope_of_traffic(row), grain.model(row["billed_model"])
        total = found[place][row["gateway_id"], row["route"]]
        total[0] += pico_of(row["cost"])
        total[1] += row["attempts"]
    return {place: [Path(*way, *total) for way, total in ways.items()] for place, ways in found.items()}
