"""Disputes: opened with evidence that is frozen at that moment, resolved once, by a correction or a rejection.

Both tables are append-only and the first row of an id counts, so neither evidence nor a resolution can be replaced by
writing again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.rows import insert_rows, query_rows
from gatemeter.sinks.terms.months import moment_of, utc_text

OPEN: Final = "open"
UPHELD: Final = "upheld"
REJECTED: Final = "rejected"
STATES: Final = (OPEN, UPHELD, REJECTED)

_TIMES: Final = (
    "toUnixTimestamp64Micro(opened_at) AS opened_us, "
    "if(isNull(resolved_at), NULL, toUnixTimestamp64Micro(assumeNotNull(resolved_at))) AS resolved_us"
)
_LIST: Final = f"""
SELECT * EXCEPT (opened_at, resolved_at), {_TIMES}
FROM disputes
WHERE ({{tenant:String}} = '' OR tenant_id = {{tenant:String}})
    AND ({{period:String}} = '' OR period = {{period:String}})
    AND ({{state:String}} = '' OR state = {{state:String}})
    AND ({{dispute:String}} = '' OR dispute_id = {{dispute:String}})
ORDER BY opened_us, dispute_id
"""
_EVIDENCE: Final = """
SELECT evidence FROM dispute_openings WHERE dispute_id = {dispute:String} ORDER BY opened_at, evidence_digest LIMIT 1
"""
_TENANTS: Final = """
SELECT DISTINCT tenant_id, formatDateTime(usage_hour, '%Y-%m', 'UTC') AS period
FROM charge_lines
WHERE gateway_id = {gateway:String} AND request_id = {request:String}
ORDER BY period, tenant_id
"""
# Rows of the run that are about what is disputed: its request and the decisions on it, else anything of the tenant.
_TOUCHES: Final = """
SELECT
    (SELECT count() FROM commits FINAL WHERE run_id = {run:String}) AS committed,
    (SELECT count() FROM corrections WHERE run_id = {run:String} AND
    (
        (kind = 'free' AND ifNull(tenant_id, '') = {tenant:String})
        OR (target = 'usage' AND (gateway_id, request_id) IN
            (SELECT gateway_id, request_id FROM usage_facts
             WHERE if({request:String} = '',
                 tenant_id = {tenant:String} AND formatDateTime(usage_hour, '%Y-%m', 'UTC') = {period:String},
                 gateway_id = {gateway:String} AND request_id = {request:String})))
        OR (target = 'decision' AND (gateway_id, request_id) IN
            (SELECT gateway_id, decision_id FROM policy_facts
             WHERE if({request:String} = '',
                 tenant_id = {tenant:String} AND formatDateTime(usage_hour, '%Y-%m', 'UTC') = {period:String},
                 gateway_id = {gateway:String} AND request_id = {request:String})))
    )) AS rows
"""
_OPENED: Final = (
    *("dispute_id", "tenant_id", "period", "gateway_id", "request_id", "opened_at", "opened_by", "reason"),
    *("evidence", "evidence_digest"),
)
_RESOLVED: Final = ("dispute_id", "state", "resolved_at", "resolved_by", "resolution", "correction_run_id")


class DisputeError(Exception):
    """What an operator asked for cannot be done; the text says why, and what can."""


@dataclass(frozen=True, slots=True)
class Disputed:
    """A statement, or one request of it where `request_id` is not ''."""

    tenant_id: str
    period: str
    gateway_id: str = ""
    request_id: str = ""


def disputed_request(client: Client, gateway_id: str, request_id: str) -> Disputed:
    """Whose request it is and in which month it was. Raises `DisputeError`, `SinkUnavailable`, `SinkRefused`."""
    found = query_rows(client, "find a request", _TENANTS, {"gateway": gateway_id, "request": request_id})
    if not found:
        raise DisputeError(f"REQUEST_ID: request {request_id!r} of gateway {gateway_id!r} is charged to nobody")
    return Disputed(found[0]["tenant_id"], found[0]["period"], gateway_id, request_id)


def open_dispute(
    client: Client, disputed: Disputed, evidence: Mapping[str, Any], *, reason: str, by: str, now_us: int
) -> tuple[str, str]:
    """Its id and the digest of the evidence, which is written with it. Raises `SinkUnavailable`, `SinkRefused`."""
    text = json.dumps(evidence, sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    of = "\0".join((disputed.tenant_id, disputed.period, disputed.gateway_id, disputed.request_id, by, reason, digest))
    stamp = utc_text(now_us // 1_000_000 * 1_000_000).replace("-", "").replace(":", "")
    dispute_id = f"{stamp}-{hashlib.sha256(f'{now_us}{of}'.encode()).hexdigest()[:12]}"
    about = (disputed.tenant_id, disputed.period, disputed.gateway_id, disputed.request_id)
    _insert(client, "dispute_openings", _OPENED, (dispute_id, *about, now_us, by, reason, text, digest))
    return dispute_id, digest


def list_disputes(
    client: Client, *, tenant: str = "", period: str = "", state: str = "", dispute_id: str = ""
) -> list[dict[str, Any]]:
    """Rows of the view `disputes` with times in microseconds; '' is any. Raises `SinkUnavailable`, `SinkRefused`."""
    asked = {"tenant": tenant, "period": period, "state": state, "dispute": dispute_id}
    return query_rows(client, "read disputes", _LIST, asked)


def evidence_of(client: Client, dispute_id: str) -> tuple[dict[str, Any], str]:
    """The dispute and its evidence as frozen. Raises `DisputeError` where it is unknown or is not what was frozen."""
    dispute = _known(client, dispute_id)
    (row,) = query_rows(client, "read evidence", _EVIDENCE, {"dispute": dispute_id})
    evidence = str(row["evidence"])
    if hashlib.sha256(evidence.encode()).hexdigest() != dispute["evidence_digest"]:
        raise DisputeError(f"DISPUTE: the evidence of {dispute_id!r} is not what was frozen: its digest differs")
    return dispute, evidence


def uphold(client: Client, dispute_id: str, *, run_id: str, reason: str, by: str, now_us: int) -> None:
    """By a run of corrections that is committed and touches it.

    Raises `DisputeError`, `SinkUnavailable`, `SinkRefused`.
    """
    dispute = _still_open(client, dispute_id)
    asked = {
        "run": run_id,
        "tenant": dispute["tenant_id"],
        "period": dispute["period"],
        "gateway": dispute["gateway_id"],
        "request": dispute["request_id"],
    }
    (row,) = query_rows(client, "read a run of corrections", _TOUCHES, asked)
    if not row["committed"]:
        raise DisputeError(f"--correction: run {run_id!r} is not committed (gatemeter corrections list)")
    if not row["rows"]:
        what = f"request {dispute['request_id']!r}" if dispute["request_id"] else f"usage of {dispute['period']}"
        raise DisputeError(f"--correction: run {run_id!r} changes nothing of {what} of tenant {dispute['tenant_id']!r}")
    _insert(client, "dispute_resolutions", _RESOLVED, (dispute_id, UPHELD, now_us, by, reason, run_id))


def reject(client: Client, dispute_id: str, *, reason: str, by: str, now_us: int) -> None:
    """With a reason. Raises `DisputeError`, `SinkUnavailable`, `SinkRefused`."""
    _still_open(client, dispute_id)
    _insert(client, "dispute_resolutions", _RESOLVED, (dispute_id, REJECTED, now_us, by, reason, ""))


def _known(client: Client, dispute_id: str) -> dict[str, Any]:
    found = list_disputes(client, dispute_id=dispute_id) if dispute_id else []
    if not found:
        raise DisputeError(f"DISPUTE: {dispute_id!r} is not known (gatemeter dispute list)")
    return found[0]


def _still_open(client: Client, dispute_id: str) -> dict[str, Any]:
    dispute = _known(client, dispute_id)
    if dispute["state"] != OPEN:
        at = utc_text(dispute["resolved_us"])
        raise DisputeError(f"DISPUTE: {dispute_id!r} was {dispute['state']} at {at} by {dispute['resolved_by']}")
    return dispute


def _insert(client: Client, table: str, columns: tuple[str, ...], row: tuple[Any, ...]) -> None:
    """One row, in the body of the request: evidence is long. Times are given in microseconds."""
    data = [moment_of(value) if name.endswith("_at") else value for name, value in zip(columns, row, strict=True)]
    insert_rows(client, table, columns, [data], f"write {table}")
