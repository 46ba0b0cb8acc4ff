"""The terms in force, from ClickHouse's operator log: what signed metadata records say since a CONTROL named them.

The fold of partition 0 writes them there, so that readers need no Kafka, and `gatemeter audit --refold` compares them
with the topic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.terms.budgets import Budget, budget_of
from gatemeter.sinks.terms.commitments import Commitment, commitment_of
from gatemeter.sinks.terms.dated import Term
from gatemeter.sinks.terms.exchange import Exchange, FxRate, fx_rate_of

T = TypeVar("T", bound=Term)

_QUERY: Final = (
    "SELECT subject, detail FROM operator_log FINAL WHERE act = {act:String} ORDER BY topic, offset"  # the last counts
)


def commitments(client: Client) -> list[Commitment]:
    """All versions of all commitments. Raises `SinkUnavailable`, `SinkRefused`."""
    return list(_read(client, "Commitment", commitment_of))


def exchange(client: Client) -> Exchange:
    """All exchange rates. Raises `SinkUnavailable`, `SinkRefused`."""
    return Exchange(_read(client, "FxRate", fx_rate_of))


def fx_rates(client: Client) -> list[FxRate]:
    """All exchange rates by pair and date. Raises `SinkUnavailable`, `SinkRefused`."""
    return sorted(_read(client, "FxRate", fx_rate_of), key=lambda rate: (rate.pair, rate.effective_from_us))


def budgets(client: Client) -> list[Budget]:
    """All versions of all budgets. Raises `SinkUnavailable`, `SinkRefused`."""
    return list(_read(client, "Budget", budget_of))


def _read(client: Client, act: str, build: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
    """A later record of the same id and start replaces. A record that is here was checked before it was in force."""
    try:
        rows = client.query(_QUERY, {"act": act}).result_rows
    except FAILURES as error:
        raise sink_error(f"read the operator log ({act})", error) from error
    latest: dict[tuple[str, int], T] = {}
    for subject, detail in rows:
        term = build(json.loads(detail))
        latest[subject, term.effective_from_us] = term
    yield from latest.values()
