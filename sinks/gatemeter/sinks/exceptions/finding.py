"""Looks at days of facts and writes what is unusual or wrong; the timer of the workers and a command share it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.exceptions import agents, caching, credentials, gaps, models, spending
from gatemeter.sinks.exceptions.hours import write_baseline, write_hours
from gatemeter.sinks.exceptions.kinds import Finding
from gatemeter.sinks.exceptions.look import Detector, Look
from gatemeter.sinks.exceptions.thresholds import Thresholds
from gatemeter.sinks.rows import insert_rows, query_rows
from gatemeter.sinks.terms.months import moment_of

DETECTORS: Final[tuple[Detector, ...]] = (
    *(spending.premium_models, spending.bursts, spending.spend_spikes),
    caching.cache_misses,
    *(agents.agent_retries, agents.tool_fan_outs),
    *(models.first_uses, models.probings, models.models_not_allowed),
    *(credentials.new_regions, credentials.new_networks, credentials.bad_credentials),
    *(gaps.policy_denials, gaps.orphans, gaps.unpriced, gaps.unattributed, gaps.unmetered, gaps.unverified),
)
LATE: Final = timedelta(hours=6)
"""For so long the day before is looked at too."""

_COLUMNS: Final = (
    *("exception_id", "kind", "severity", "period", "tenant_id", "app_id", "workload_id", "credential_fingerprint"),
    *("provider", "model", "subject", "owner", "first_seen_at", "last_seen_at", "seen", "expected", "request_ids"),
    *("requests", "cost", "currency", "found_at"),
)
_OWNERS: Final = """
SELECT identity_kind, identity_id, tenant_id, argMax(owner, (effective_from, metadata_offset)) AS owner
FROM identities GROUP BY identity_kind, identity_id, tenant_id
"""
_KNOWN: Final = "SELECT * EXCEPT found_at FROM found_exceptions FINAL WHERE period = {day:Date}"


@dataclass(frozen=True, slots=True)
class Found:
    """What looks found: `new` were not known, `changed` have got more, the rest stands as it was."""

    all: tuple[Finding, ...]
    new: tuple[str, ...]
    changed: tuple[str, ...]


def days_until(now: datetime) -> list[date]:
    """The days that a timer looks at: the running one, and the one before while late facts still reach it."""
    return sorted({(now - LATE).date(), now.date()})


def find_exceptions(client: Client, days: Iterable[date], thresholds: Thresholds, now: datetime) -> Found:
    """Looks at each day and writes what it finds before it goes on to the next. What is found again keeps its state.

    Raises `SinkUnavailable`, `SinkRefused`; what was written of earlier days stays.
    """
    owners = _owners(client)
    found: list[Finding] = []
    new: list[str] = []
    changed: list[str] = []
    for day in days:
        write_baseline(client, day, now)
        write_hours(client, day, now)
        look = Look(client, day, thresholds)
        of_day = [finding for detector in DETECTORS for finding in detector(look)]
        _write(client, day, of_day, owners, now, (new, changed))
        found += of_day
    return Found(tuple(found), tuple(new), tuple(changed))


def _write(
    client: Client,
    day: date,
    found: Sequence[Finding],
    owners: Mapping[tuple[str, str, str], str],
    now: datetime,
    told: tuple[list[str], list[str]],
) -> None:
    """Writes what is new or has changed; ids of both go to `told`."""
    new, changed = told
    doing = f"write the exceptions of {day}"
    known = {row["exception_id"]: row for row in query_rows(client, doing, _KNOWN, {"day": day})}
    rows = []
    for finding in found:
        row = _row(finding, owners)
        before = known.get(row["exception_id"])
        if before is not None and all(_plain(before[name]) == _plain(row[name]) for name in _COLUMNS[:-1]):
            continue
        (new if before is None else changed).append(row["exception_id"])
        rows.append([*(row[name] for name in _COLUMNS[:-1]), now])
    insert_rows(client, "found_exceptions", _COLUMNS, rows, doing)


def _row(finding: Finding, owners: Mapping[tuple[str, str, str], str]) -> dict[str, Any]:
    row = {name: getattr(finding, name) for name in _COLUMNS if hasattr(finding, name)}
    return row | {
        "owner": _owner(finding, owners),
        "first_seen_at": moment_of(finding.first_seen_us),
        "last_seen_at": moment_of(finding.last_seen_us),
        "request_ids": list(finding.request_ids),
    }


def _plain(value: Any) -> Any:
    """Times of the client are in UTC and do not say so."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def _owner(finding: Finding, owners: Mapping[tuple[str, str, str], str]) -> str:
    """Of the credential, else the workload, else the app, as registered; '' where none of them is."""
    names = (("credential", finding.credential_fingerprint), ("workload", finding.workload_id), ("app", finding.app_id))
    for kind, name in names:
        owner = owners.get((kind, name, finding.tenant_id), "") if name else ""
        if owner:
            return owner
    return ""


def _owners(client: Client) -> dict[tuple[str, str, str], str]:
    rows = query_rows(client, "read who owns what", _OWNERS)
    return {(row["identity_kind"], row["identity_id"], row["tenant_id"]): row["owner"] for row in rows}
