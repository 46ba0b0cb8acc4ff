"""Facts for explanations: a signed metadata log, events that the fold's own rules turn into rows, and their lines.

The lines that views would make are made here by the rules of `ledger_oracle`, without SQL and without the code under
test.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gatemeter.processors.explaining.explanation import Explanation, explain
from gatemeter.processors.explaining.terms import Terms
from gatemeter.processors.fold.facts import Source, policy_fact, unanswered_fact, usage_fact
from gatemeter.processors.fold.state import Clock
from gatemeter.processors.metadata.cards import RateLine
from gatemeter.processors.metadata.log import MetadataLog
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.processors.pricing.cards import CardHead, make_card_datum
from gatemeter.schemas import codec
from gatemeter.sinks.reports.requests import RequestRows, Row
from support.ledger_oracle import charge_lines, role_of
from support.logs import OPERATOR, START_US

FILES = Path(__file__).parents[1] / "unit" / "processors" / "explaining" / "metadata"
SOURCE = Source("gatemeter.events", 3, 17, START_US, "a-1", "gw-a", "inference_proxy", "e-1", 40)
_WHO = ("tenant_id", "app_id", "workload_id", "cost_centre", "business_unit", "organisation")


def card(card_id: str = "card-1", path: Path = FILES / "rates.json", **head: Any) -> Draft:
    """A rate card of the lines in a file."""
    lines = [RateLine(**line) for line in json.loads(path.read_text("utf-8"))]
    dates = {"effective_from_us": 0, "effective_to_us": None, "currency": "USD", "source": "contract of 2026-01"}
    return Draft("RateCard", make_card_datum(CardHead(card_id, **(dates | head)), lines))


def gateways() -> list[Draft]:
    """The gateways that `support.logs` sends as."""
    keys = {"gw-a": ("inference_proxy", "a-1"), "gw-b": ("inference_proxy", "b-1"), "_tick": ("policy_point", "tick-1")}
    return [
        Draft(
            "Gateway",
            {
                "gateway_id": gateway_id,
                "gateway_kind": kind,
                "keys": [{"kid": kid, "valid_from": 0, "valid_to": None}],
                "attestation_keys": [],
            },
        )
        for gateway_id, (kind, kid) in keys.items()
    ]


def metadata_log(*drafts: Draft, tenants: Path = FILES / "tenants.yaml") -> MetadataLog:
    """A log of a tenants file and then `drafts` (default: the card of rates.json), each a record of an operator."""
    log = MetadataLog({OPERATOR.kid: OPERATOR.public_hex})
    for offset, draft in enumerate([*read_tenants_file(tenants), *(drafts or (card(),))]):
        value = codec.encode(draft.name, dict(draft.datum))
        log.append(offset, value, dict(OPERATOR.headers(value)), START_US)
    return log


class Explained:
    """One request of gateway gw-a; its events become rows by the rules of the fold, at the newest view."""

    def __init__(self, log: MetadataLog | None = None) -> None:
        self.log = log or metadata_log()
        self.view = self.log.view(self.log.loaded_to)
        self.clock = Clock()
        self.usage: list[Row] = []
        self.decisions: list[Row] = []
        self.corrections: list[Row] = []

    def _event(self, event: Mapping[str, Any]) -> dict[str, Any]:
        count = len(self.usage) + len(self.decisions)
        return {**dict.fromkeys(codec.EVENT_FIELDS), **event, "content_hash": bytes([count] * 16)}

    def response(self, event: Mapping[str, Any]) -> Row:
        """The row of a RESPONSE."""
        row = usage_fact(self._event(event), len(self.usage), SOURCE, self.clock, self.view)
        self.usage.append(row)
        return row

    def unanswered(self, event: Mapping[str, Any], *, denied: bool = False) -> Row:
        """The row of a REQUEST without an answer."""
        row = unanswered_fact(self._event(event), len(self.usage), SOURCE, self.view, self.clock, denied=denied)
        self.usage.append(row)
        return row

    def policy(self, event: Mapping[str, Any]) -> Row:
        """The row of a POLICY."""
        row = policy_fact(self._event(event), len(self.decisions), SOURCE, self.clock, self.view)
        self.decisions.append(row)
        return row

    def rows(self) -> RequestRows:
        """What the tables and views would hold of it; nothing is sealed."""
        first = next(iter((*self.usage, *self.decisions)))
        lines = self._lines()
        rows = RequestRows("gw-a", first["request_id"], self.usage, self.decisions, lines, lines)
        rows.corrections = self.corrections
        return rows

    def explain(self, *, without_prices: bool = False) -> Explanation:
        """The explanation."""
        return explain(self.rows(), None if without_prices else Terms(self.log))

    def _lines(self) -> list[Row]:
        attempts: dict[int, Row] = {}
        for row in self.usage:
            if row["attempt"] not in attempts or row["version"] > attempts[row["attempt"]]["version"]:
                attempts[row["attempt"]] = row
        made = charge_lines(self.usage, self.decisions, 1 << 62)
        found = []
        for (kind, gateway_id, name, attempt), money in made.items():
            usage = kind == "usage"
            row = attempts[attempt] if usage else next(r for r in self.decisions if r["decision_id"] == name)
            role = role_of(attempt, attempts) if usage else ""
            absorbs = usage and row["retry_rule"] == "final_only" and role != "answered"
            moved = absorbs and not row["absorbed_to"] and row["charge"]
            idle = absorbs or role in ("", "answered")
            found.append(
                {
                    **{"kind": kind, "gateway_id": gateway_id, "request_id": row["request_id"], "attempt": attempt},
                    "decision_id": "" if usage else name,
                    "response_hash": row["response_hash"] if usage else row["content_hash"],
                    **{who: row[who] for who in _WHO},
                    **money,
                    **{name: row[name] for name in ("price_status", "currency", "plan_id")},
                    "attempt_role": role,
                    "absorbed_to": row["retry_cost_centre"] if moved else row["absorbed_to"],
                    "retry_cost": None if money["charge"] is None else 0 if idle else money["charge"],
                    "posting_period": "",
                    "correction_run": "",
                }
            )
        return found


def by_name(lines: Sequence[Any]) -> dict[str, tuple[int, int | None, int | None]]:
    """Of each line its quantity, list cost and provider cost."""
    return {line.name: (line.quantity, line.list_pico, line.provider_pico) for line in lines}
