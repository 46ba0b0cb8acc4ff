"""Makes the month, plants the differences, imports the exports by the real command, reconciles, and judges what was
found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing, redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any, Final

from benchmarks.exports import (
    Line,
    write_anthropic_cost,
    write_anthropic_usage,
    write_aws_cur,
    write_focus_azure,
    write_focus_google,
    write_openai_costs,
    write_openai_usage,
)
from benchmarks.reconcile_check.bills import OUR_RATE, Bills, Place
from benchmarks.reconcile_check.defects import planted
from benchmarks.reconcile_check.world import PERIOD, PROJECTS, PROVIDERS, publish, read_card, uses, write_facts
from clickhouse_connect.driver.client import Client

from gatemeter.cli.main import app
from gatemeter.processors.reconciling.running import Run, Wanted, reconcile
from gatemeter.processors.reconciling.settings import Scope, Settings
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink, connect

Found = Mapping[Place, int]
NOW: Final = datetime(2026, 11, 9, 9, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one planted difference. `found`: every amount of it, with its cause, and to the last digit."""

    kind: str
    places: int
    amount: int
    found: bool
    wrong_class: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """All verdicts, and findings that no plant accounts for."""

    verdicts: tuple[Verdict, ...]
    false_reports: tuple[tuple[Place, int], ...]

    def as_json(self) -> dict[str, Any]:
        """The figures."""
        return {
            "planted": len(self.verdicts),
            "found": sum(verdict.found for verdict in self.verdicts),
            "wrong_class": sum(verdict.wrong_class for verdict in self.verdicts),
            "false_reports": len(self.false_reports),
        }


def check(where: ClickHouseSettings, folder: Path, seed: int, calls: int, said: Callable[[str], None]) -> Judged:
    """`where`: an empty, migrated database."""
    card = read_card()
    bills = Bills(card, uses(seed, calls), seed)
    planted(bills)
    with closing(connect(where)) as client, closing(ClickHouseSink(where)) as sink:
        publish(client, "RateCard", card.datum["card_id"], card.datum, 1)
        publish(client, "FxRate", "EUR/USD", _rate(), 2)
        write_facts(sink, card, bills.used)
        said(f"{len(bills.used):,} facts of {len(PROVIDERS)} providers")
        for file, form in _exports(bills, folder):
            _import(where, file, form)
            said(f"imported {file.name} ({form})")
        found = {name: _found(_reconciled(client, name)) for name in PROVIDERS}
    return judge(bills, {place: amount for each in found.values() for place, amount in each.items()})


def _rate() -> dict[str, Any]:
    dates = {"effective_from": 0, "effective_to": None}
    return {"pair": "EUR/USD", "rate": str(OUR_RATE), "source": "made up", **dates}


def _exports(bills: Bills, folder: Path) -> list[tuple[Path, str]]:
    lines = bills.lines
    files = [
        ("openai-costs.json", "openai-costs", write_openai_costs, "openai", _costs),
        ("openai-usage.json", "openai-usage", write_openai_usage, "openai", _counts),
        ("anthropic-cost.json", "anthropic-cost", write_anthropic_cost, "anthropic", _costs),
        ("anthropic-usage.json", "anthropic-usage", write_anthropic_usage, "anthropic", _counts),
        ("aws-cur.parquet", "aws-cur", write_aws_cur, "aws", list),
        ("azure-focus.csv.gz", "focus", write_focus_azure, "azure", list),
        ("google-focus.csv", "focus", write_focus_google, "vertex", list),
    ]
    made: list[tuple[Path, str]] = []
    for name, form, write, provider, part in files:
        write(folder / name, part(lines[provider]))
        made.append((folder / name, form))
    return made


def _costs(lines: list[Line]) -> list[Line]:
    """A cost report has no tokens."""
    return [replace(line, quantity=None) for line in lines]


def _counts(lines: list[Line]) -> list[Line]:
    """A usage report has no amounts, and nothing but use."""
    return [replace(line, amount=None) for line in lines if line.quantity is not None]


def _import(where: ClickHouseSettings, file: Path, form: str) -> None:
    """By the command that users have, in this process. Raises `RuntimeError` where it does not end with 0."""
    words = ["billing", "import", str(file), "--format", form, "--strict"]
    words += ["--clickhouse-url", where.url, "--clickhouse-user", where.user, "--clickhouse-database", where.database]
    with redirect_stdout(StringIO()) as said:
        try:
            app(args=[*words, "--clickhouse-password", where.password], prog_name="gatemeter")
        except SystemExit as ended:
            if ended.code:
                raise RuntimeError(f"billing import {file.name} ended with {ended.code}: {said.getvalue()}") from ended


def _reconciled(client: Client, name: str) -> Run:
    provider = PROVIDERS[name]
    scopes = tuple(
        Scope(project, project=provider.project(project), gateways=(f"gw-{project}", "gw-z-edge"))
        for project in PROJECTS
    )
    settings = Settings(calendar=provider.calendar, scopes=_edge_to_support(scopes))
    return reconcile(client, Wanted(name, PERIOD), settings, NOW)


def _edge_to_support(scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
    """The second gateway stands before one project alone."""
    return tuple(
        replace(scope, gateways=scope.gateways if scope.name == "support" else scope.gateways[:1]) for scope in scopes
    )


def _found(run: Run) -> Found:
    found: dict[Place, int] = defaultdict(int)
    for each in run.findings:
        token_type, workload_class = (each.key.token_type, each.key.workload_class) if each.key else ("", "realtime")
        where = Place(run.wanted.provider, each.cause, each.day, each.scope, each.model, token_type, workload_class)
        found[where] += each.amount
    return found


def judge(bills: Bills, found: Found) -> Judged:
    """Each plant against what was found: right where every amount of it is there, with its cause, and no other."""
    left = dict(found)
    for plant in bills.plants:
        for place, amount in plant.expected.items():
            if place in left and left[place] == amount:
                del left[place]
    spots: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for place in left:
        spots[_spot(place)].add(place.cause)
    verdicts = []
    explained: set[Place] = set()
    for plant in bills.plants:
        missing = [place for place, amount in plant.expected.items() if found.get(place) != amount and amount]
        wrong = [place for place in missing if spots[_spot(place)] - {place.cause}]
        explained |= {place for place in left for want in missing if _spot(place) == _spot(want)}
        total = sum(plant.expected.values())
        verdicts.append(
            Verdict(plant.kind, len(plant.expected), total, not missing and bool(plant.expected), bool(wrong))
        )
    false = tuple(sorted((place, amount) for place, amount in left.items() if place not in explained))
    return Judged(tuple(verdicts), false)


def _spot(place: Place) -> tuple[Any, ...]:
    """Where a place is, whatever the cause."""
    return (place.provider, place.day, place.project, place.model, place.token_type, place.workload_class)
