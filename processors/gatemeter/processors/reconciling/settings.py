"""Settings of a reconciliation, from a TOML file: tolerances, names of models, and which traffic an account pays for.

[openai]
calendar = "UTC"              # the provider's billing days
tolerance_percent = "0.01"    # of an invoiced quantity
tolerance_amount = "0.05"     # of a line, in the gateway's currency
late_days = 3
estimated_percent = 50
[openai.models]               # the provider's name = ours
"GPT-4o (2024-08-06)" = "gpt-4o-2024-08-06"
[[openai.scopes]]             # the first that fits counts, for lines and for traffic
name = "search"
account = "org-1"             # of the export: account, project, key_id
project = "proj_search"
gateways = ["gw-eu"]          # of the traffic: gateways, routes, tenants, apps, regions
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gatemeter.processors.reconciling.sides import Tolerances

CALENDARS: Final = {"google": "America/Los_Angeles", "vertex": "America/Los_Angeles"}
"""Billing time zones of providers that do not count in UTC days. Source: Google Cloud billing, "Pacific Time"."""

OUTSIDE: Final = "(no scope)"
"""The scope of what fits none of those that are set."""

_LINES: Final = ("account", "project", "key_id")
_TRAFFIC: Final = ("gateways", "routes", "tenants", "apps", "regions")
TRAFFIC_COLUMNS: Final = dict(zip(_TRAFFIC, ("gateway_id", "route", "tenant_id", "app_id", "region"), strict=True))
_FIELDS: Final = (
    *("calendar", "tolerance_percent", "tolerance_amount", "late_days", "estimated_percent", "models", "scopes"),
)
_PICO_DIGITS: Final = 12


class ReconcileError(ValueError):
    """Settings or a run that cannot be used; one line that names the field and what is accepted."""


@dataclass(frozen=True, slots=True)
class Scope:
    """An account (project, key) of the provider and the traffic that it pays for. '' and () fit everything."""

    name: str
    account: str = ""
    project: str = ""
    key_id: str = ""
    gateways: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()

    def has_line(self, line: Mapping[str, Any]) -> bool:
        """Whether a line of an export belongs here."""
        return all(getattr(self, name) in ("", line[name]) for name in _LINES)

    def has_traffic(self, fact: Mapping[str, Any]) -> bool:
        """Whether attempts belong here."""
        return all(
            not getattr(self, name) or fact[column] in getattr(self, name) for name, column in TRAFFIC_COLUMNS.items()
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one provider."""

    calendar: str = "UTC"
    tolerances: Tolerances = field(default_factory=Tolerances)
    models: Mapping[str, str] = field(default_factory=dict)
    scopes: tuple[Scope, ...] = ()

    @property
    def traffic_columns(self) -> list[str]:
        """The columns of facts that the scopes ask for."""
        return [column for name, column in TRAFFIC_COLUMNS.items() if any(getattr(each, name) for each in self.scopes)]

    def scope_of_line(self, line: Mapping[str, Any]) -> str:
        """The scope of a line of an export."""
        if not self.scopes:
            return ""
        return next((scope.name for scope in self.scopes if scope.has_line(line)), OUTSIDE)

    def scope_of_traffic(self, fact: Mapping[str, Any]) -> str:
        """The scope of attempts, by `traffic_columns`."""
        if not self.scopes:
            return ""
        known = {**dict.fromkeys(TRAFFIC_COLUMNS.values(), ""), **fact}
        return next((scope.name for scope in self.scopes if scope.has_traffic(known)), OUTSIDE)

    def as_json(self) -> dict[str, Any]:
        """The settings as plain data."""
        return asdict(self)


def settings_of_json(given: Mapping[str, Any]) -> Settings:
    """Settings as `Settings.as_json` gave them."""
    scopes = tuple(_scope(number, scope) for number, scope in enumerate(given["scopes"], 1))
    return Settings(given["calendar"], Tolerances(**given["tolerances"]), given["models"], scopes)


def settings_of(provider: str, file: Path | None) -> Settings:
    """The settings of a provider in a file, else the defaults. Raises `ReconcileError`, naming file and field."""
    if file is None:
        return Settings(calendar=CALENDARS.get(provider, "UTC"))
    try:
        read = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ReconcileError(f"{file.name}: {error}") from error
    section = read.get(provider, {})
    try:
        return _settings(provider, section)
    except ReconcileError as error:
        raise ReconcileError(f"{file.name}: [{provider}] {error}") from error


def calendar_of(name: str) -> ZoneInfo:
    """The time zone of billing days: of whole hours, as usage is kept. Raises `ReconcileError` for another one."""
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ReconcileError(f"calendar must be a time zone such as America/Los_Angeles, got {name!r}") from error
    if any((zone.utcoffset(datetime(2026, month, 15)) or timedelta()) % timedelta(hours=1) for month in (1, 7)):
        raise ReconcileError(f"calendar must be whole hours from UTC, got {name!r}")
    return zone


def _settings(provider: str, section: Any) -> Settings:
    if not isinstance(section, Mapping):
        raise ReconcileError(f"must be a table, got {section!r}")
    _known("", section, _FIELDS)
    calendar = _text("calendar", section.get("calendar", CALENDARS.get(provider, "UTC")))
    calendar_of(calendar)
    tolerances = Tolerances(
        quantity_ppm=int(_decimal("tolerance_percent", section.get("tolerance_percent", "0"), 100) * 10_000),
        amount=int(_decimal("tolerance_amount", section.get("tolerance_amount", "0"), 10**6).scaleb(_PICO_DIGITS)),
        late_days=_whole("late_days", section.get("late_days", 3), 31),
        estimated_percent=_whole("estimated_percent", section.get("estimated_percent", 50), 1000),
    )
    models = section.get("models", {})
    if not isinstance(models, Mapping) or not all(isinstance(name, str) and name for name in models.values()):
        raise ReconcileError("models must be a table of names")
    scopes = section.get("scopes", [])
    if not isinstance(scopes, list):
        raise ReconcileError("scopes must be tables: [[PROVIDER.scopes]]")
    found = tuple(_scope(number, each) for number, each in enumerate(scopes, 1))
    names = [scope.name for scope in found]
    if len(set(names)) < len(names):
        raise ReconcileError(f"scopes: each name once, got {', '.join(names)}")
    return Settings(calendar, tolerances, dict(models), found)


def _scope(number: int, given: Any) -> Scope:
    where = f"scopes[{number}]"
    if not isinstance(given, Mapping):
        raise ReconcileError(f"{where} must be a table, got {given!r}")
    _known(f"{where}.", given, ("name", *_LINES, *_TRAFFIC))
    texts = {name: _text(f"{where}.{name}", given[name]) for name in ("name", *_LINES) if name in given}
    if not texts.get("name"):
        raise ReconcileError(f"{where}.name must be given")
    lists: dict[str, tuple[str, ...]] = {}
    for name in _TRAFFIC:
        values = given.get(name, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ReconcileError(f"{where}.{name} must be a list of texts, got {values!r}")
        lists[name] = tuple(values)
    return Scope(**texts, **lists)  # type: ignore[arg-type]


def _known(where: str, given: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in given:
        if name not in names:
            raise ReconcileError(f"{where}{name} is not known: must be one of {', '.join(names)}")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > 256:
        raise ReconcileError(f"{name} must be text of at most 256 characters, got {value!r}")
    return value


def _whole(name: str, value: Any, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ReconcileError(f"{name} must be a whole number from 0 to {most}, got {value!r}")
    return value


def _decimal(name: str, value: Any, most: int) -> Decimal:
    accepted = f'{name} must be a decimal from 0 to {most} in quotes, such as "0.05"'
    if not isinstance(value, str):
        raise ReconcileError(f"{accepted}, got {value!r}")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ReconcileError(f"{accepted}, got {value!r}") from None
    if not number.is_finite() or not 0 <= number <= most:
        raise ReconcileError(f"{accepted}, got {value!r}")
    return number
