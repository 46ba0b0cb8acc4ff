"""Charging what only evidence saw: an entry of its own that names the call, which is charged once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.adjust import Manual, free_entry
from gatemeter.processors.corrections.rows import CorrectionError, CorrectionRow
from gatemeter.processors.metadata.entries import HOUR_US
from gatemeter.sinks.rows import query_rows

_CALL: Final = """
SELECT toUnixTimestamp64Micro(request_started_at) AS started_us, tenant_id, app_id, workload_id,
    fact_gateway_id, fact_request_id, fact_attempt
FROM evidence_matches WHERE place = {place:String}
"""
_UNMETERED: Final = "SELECT charged_in_run FROM unmetered_calls WHERE place = {place:String}"


@dataclass(frozen=True, slots=True)
class Unmetered:
    """A call that no gateway metered. `usage_hour_us`: of its start; who made it, as the evidence says."""

    place: str
    usage_hour_us: int
    tenant_id: str
    app_id: str
    workload_id: str


def find_unmetered(client: Client, place: str) -> Unmetered:
    """The call at a place of the view `unmetered_calls`.

    Raises `CorrectionError` where there is none, a gateway metered it or still may, or a correction charges it already.
    """
    found = query_rows(client, f"look for the evidence at {place}", _CALL, {"place": place})
    if not found:
        raise CorrectionError(
            f"--evidence must be a place of the view unmetered_calls, such as gatemeter.events/3/1234/0, got {place!r}"
        )
    (call,) = found
    if call["fact_gateway_id"]:
        fact = f"attempt {call['fact_attempt']} of request {call['fact_request_id']!r} of {call['fact_gateway_id']!r}"
        raise CorrectionError(f"--evidence {place}: the call was metered: {fact}; correct that with --request")
    state = query_rows(client, f"look whether {place} was metered", _UNMETERED, {"place": place})
    if not state:
        raise CorrectionError(
            f"--evidence {place}: the grace has not passed in every partition, a gateway may still meter the call"
        )
    if state[0]["charged_in_run"]:
        raise CorrectionError(f"--evidence {place}: run {state[0]['charged_in_run']} charges the call already")
    started_us = call["started_us"]
    who = (call["tenant_id"], call["app_id"], call["workload_id"])
    return Unmetered(place, started_us - started_us % HOUR_US, *who)


def evidenced_entry(run_id: str, call: Unmetered, manual: Manual) -> CorrectionRow:
    """An entry of its own for the call, in its hour. What an operator gave goes before what the evidence says.

    Raises `CorrectionError`.
    """
    said = {"tenant_id": call.tenant_id, "app_id": call.app_id, "workload_id": call.workload_id}
    given = {name: value for name, value in manual.attribution.items() if value}
    return free_entry(run_id, call.usage_hour_us, replace(manual, attribution={**said, **given}), call.place)
