"""After the run: the audit of the product itself, and everything that was said against everything that is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

import polars as pl
from chaos.oracle import MEASURES
from chaos.stage import Stage

Say = Callable[[str], None]
AUDIT: Final = (sys.executable, "-c", "from gatemeter.cli.main import app; app()", "audit", "--json")
PICO: Final = 10**12

_TOTALS: Final = f"""
    SELECT toString(month), tenant_id, model,
        {", ".join(f"toInt128(sum({name}))" for name in MEASURES[:5])},
        {", ".join(f"toString(toInt128(sum(ifNull({name}, 0)) * {PICO}))" for name in MEASURES[5:])}
    FROM chargeback_monthly GROUP BY month, tenant_id, model
"""
_LINES: Final = """
    SELECT gateway_id, request_id AS id, toString(attempt) AS attempt, tenant_id AS tenant, model,
        toString(input_tokens) AS input_tokens, toString(output_tokens) AS output_tokens,
        toString(toInt128(ifNull(provider_cost, 0) * 1000000000000)) AS provider_cost,
        toString(toInt128(ifNull(charge, 0) * 1000000000000)) AS charge
    FROM attempts
    UNION ALL
    SELECT gateway_id, decision_id, 'decision', tenant_id, '', '0', '0',
        toString(toInt128(ifNull(provider_cost, 0) * 1000000000000)),
        toString(toInt128(ifNull(charge, 0) * 1000000000000))
    FROM decisions
"""
_DOUBLED: Final = """
    SELECT count() FROM
    (
        SELECT gateway_id, request_id, attempt FROM usage_facts FINAL
        GROUP BY gateway_id, request_id, attempt, has_response, usage_revision HAVING count() > 1
        UNION ALL
        SELECT gateway_id, decision_id, 0 FROM policy_facts FINAL GROUP BY gateway_id, decision_id HAVING count() > 1
    )
"""
_COMPARED: Final = ("tenant", "model", "input_tokens", "output_tokens", "provider_cost", "charge")


def check(place: Stage, said: dict[str, Any], say: Say) -> dict[str, Any]:
    """`ok`, and what each check found."""
    say("Counting")
    found = _by_key(place, say)
    found |= _totals(place, said, say)
    found |= _quarantined(place)
    found |= _audit(place, say)
    wrong = found["lost"] or found["doubled"] or found["unexpected"] or found["differing"] or found["quarantined"]
    found["ok"] = not wrong and found["totals"] == "equal" and found["audit"] == "clean"
    return found


def _by_key(place: Stage, say: Say) -> dict[str, Any]:
    """Attempts and decisions, one by one."""
    said = pl.read_ipc(place.folder / "said.arrow")
    there = pl.DataFrame(pl.from_arrow(place.client.query_arrow(_LINES, use_strings=True)))
    key = ["gateway_id", "id", "attempt"]
    there = there.with_columns(pl.col(pl.Categorical).cast(pl.String)) if there.height else there
    lost = said.join(there, on=key, how="anti")
    unexpected = there.join(said, on=key, how="anti")
    both = said.select(*key, *_COMPARED).join(there.select(*key, *_COMPARED), on=key, suffix="_there")
    differing = both.filter(pl.any_horizontal(*(pl.col(name) != pl.col(f"{name}_there") for name in _COMPARED)))
    for title, rows in (("lost", lost), ("unexpected", unexpected), ("differing", differing)):
        if rows.height:
            say(f"{rows.height} {title}, the first: {rows.row(0, named=True)}")
    doubled = int(place.client.query(_DOUBLED).result_rows[0][0])
    return {
        "keys": said.height,
        "lost": lost.height,
        "doubled": doubled + (there.height - there.unique(key).height),
        "unexpected": unexpected.height,
        "differing": differing.height,
    }


def _totals(place: Stage, said: dict[str, Any], say: Say) -> dict[str, Any]:
    """The views that finance reads, by month, tenant and model."""
    there = {tuple(row[:3]): [int(value) for value in row[3:]] for row in place.client.query(_TOTALS).result_rows}
    expected = {tuple(row[:3]): row[3:] for row in said["totals"]}
    for key in sorted(set(there) | set(expected)):
        if there.get(key) != expected.get(key):
            named = dict(zip(MEASURES, expected.get(key) or [], strict=False))
            say(f"{key}: said {named}, there {there.get(key)}")
    return {"totals": "equal" if there == expected else "differ", "totals_compared": len(expected) * len(MEASURES)}


def _quarantined(place: Stage) -> dict[str, Any]:
    """Everything was said right and signed, so nothing may have been refused."""
    return {"quarantined": int(place.client.query("SELECT count() FROM quarantine").result_rows[0][0])}


def _audit(place: Stage, say: Say) -> dict[str, Any]:
    """`gatemeter audit`, as an operator runs it, with every row compared with a new fold of the whole log."""
    database = place.database
    command = [*AUDIT, "--clickhouse-url", database.url, "--clickhouse-user", database.user]
    command += ["--clickhouse-database", database.database]
    command += ["--bootstrap", place.broker.bootstrap, "--operator-keys", str(place.folder / "operators.json")]
    command += ["--refold", "--secrets", str(place.folder / "secrets.json")]
    environment = {**os.environ, "GATEMETER_CLICKHOUSE_PASSWORD": database.password}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        say(f"gatemeter audit ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return {"audit": "not clean"}
    json.loads(done.stdout)  # what a program would read
    return {"audit": "clean"}
