"""The list of exceptions, and one of them with what operators said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.exceptions.kinds import SEVERITIES, STATES
from gatemeter.sinks.rows import query_rows

COLUMNS: Final = (
    *("exception_id", "kind", "severity", "state", "state_reason", "tenant_id", "app_id", "workload_id"),
    *("credential_fingerprint", "provider", "model", "owner", "first_seen_at", "last_seen_at", "seen", "expected"),
    *("request_ids", "requests", "cost", "currency"),
)
_ORDER: Final = (
    f"indexOf([{', '.join(repr(name) for name in SEVERITIES)}], severity) DESC, last_seen_at DESC, exception_id"
)
_ACTS: Final = (
    "SELECT at, act, who, reason, owner FROM exception_acts WHERE exception_id = {id:String} ORDER BY at, act"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which exceptions; '' and None are any. `least`: the lowest severity. `seen_from`: last seen then or later."""

    state: str = ""
    kind: str = ""
    tenant_id: str = ""
    owner: str = ""
    least: str = ""
    seen_from: datetime | None = None
    seen_until: datetime | None = None

    def __post_init__(self) -> None:
        if self.state and self.state not in STATES:
            raise ValueError(f"state: must be one of {', '.join(STATES)}, got {self.state!r}")
        if self.least and self.least not in SEVERITIES:
            raise ValueError(f"severity: must be one of {', '.join(SEVERITIES)}, got {self.least!r}")

    @property
    def conditions(self) -> list[str]:
        """Of the columns of `exception_list`, with the parameters below."""
        equal = ("state", "kind", "tenant_id", "owner")
        found = [f"{name} = {{{name}:String}}" for name in equal if getattr(self, name)]
        if self.least:
            found.append("has({severities:Array(String)}, severity)")
        if self.seen_from:
            found.append("last_seen_at >= {seen_from:DateTime64(6, 'UTC')}")
        if self.seen_until:
            found.append("first_seen_at < {seen_until:DateTime64(6, 'UTC')}")
        return found

    @property
    def parameters(self) -> dict[str, Any]:
        """Values for the conditions."""
        severities = list(SEVERITIES[SEVERITIES.index(self.least) :]) if self.least else []
        names = ("state", "kind", "tenant_id", "owner", "seen_from", "seen_until")
        return {name: getattr(self, name) for name in names if getattr(self, name)} | {"severities": severities}


def exceptions(client: Client, wanted: Wanted, limit: int) -> list[dict[str, Any]]:
    """Rows of `exception_list`, the most severe and the latest first. Raises `SinkUnavailable`, `SinkRefused`."""
    where = " AND ".join(wanted.conditions) or "1"
    query = f"SELECT {', '.join(COLUMNS)} FROM exception_list WHERE {where} ORDER BY {_ORDER} LIMIT {{most:UInt32}}"
    return query_rows(client, "list exceptions", query, wanted.parameters | {"most": limit})


def exception(client: Client, exception_id: str) -> tuple[dict[str, Any], Sequence[Mapping[str, Any]]] | None:
    """One exception and its acts in order; None where there is none. Raises `SinkUnavailable`, `SinkRefused`."""
    query = f"SELECT {', '.join(COLUMNS)} FROM exception_list WHERE exception_id = {{id:String}}"
    doing, asked = f"read exception {exception_id}", {"id": exception_id}
    rows, acts = (query_rows(client, doing, each, asked) for each in (query, _ACTS))
    return (rows[0], acts) if rows else None


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has it: times in ISO 8601 with Z, amounts as exact text."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")  # the client's are UTC and do not say so
    if isinstance(value, Decimal):
        return f"{value:f}"
    return list(value) if isinstance(value, tuple) else value
