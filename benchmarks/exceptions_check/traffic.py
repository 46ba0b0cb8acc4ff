"""Sixteen days of usual traffic: workloads whose calls have the tokens of the Azure trace, and an hour of day."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from gatemeter.cli.demo.trace import Call

DAYS: Final = 16
LOOKED: Final = date(2026, 3, 16)
"""A Monday; the fourteen days before it are the baseline, the day after it has nothing planted."""
FIRST: Final = LOOKED - timedelta(days=14)
HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
PICO_PER_TOKEN: Final = {
    "gpt-4o-mini": (150_000, 600_000),
    "gpt-4o": (2_500_000, 10_000_000),
    "claude-sonnet": (3_000_000, 15_000_000),
    "gemini-flash": (300_000, 2_500_000),
    "o1-pro": (150_000_000, 600_000_000),
    "gpt-4.1": (2_000_000, 8_000_000),
}
"""Model → price of an input and an output token in 10⁻¹² USD; what is not here has no price."""
_PROVIDERS: Final = {"claude": "anthropic", "gemini": "google"}


@dataclass(frozen=True)
class Workload:
    """`per_hour`: mean calls at the busiest hour. `hours`: of day, [from, to); '' of `models`: weights."""

    tenant: str
    name: str
    service: str
    per_hour: float
    models: Sequence[tuple[str, float]] = (("gpt-4o-mini", 1.0),)
    credential: str = ""
    regions: tuple[str, ...] = ("eu-west",)
    prompt_cache: float = 0.0
    gateway_cache: float = 0.0
    hours: tuple[int, int] = (0, 24)
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    more: dict[str, Any] = field(default_factory=dict)


def start_us(day: date, hour: int = 0) -> int:
    """Microseconds of an hour of a day."""
    return int(datetime(day.year, day.month, day.day, hour, tzinfo=UTC).timestamp()) * 1_000_000


class World:
    """Rows of the tables as they come; everything is drawn from one seed."""

    def __init__(self, calls: Sequence[Call], seed: int) -> None:
        self.rng = random.Random(seed)
        self.facts: list[dict[str, Any]] = []
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self._calls = {name: [call for call in calls if call.service == name] for name in ("conversation", "code")}

    def usual(self, workload: Workload) -> None:
        """Its traffic of all days: nights are quiet, hours are Poisson."""
        for number in range(DAYS):
            day = FIRST + timedelta(days=number)
            if day.weekday() not in workload.weekdays:
                continue
            for hour in range(*workload.hours):
                shape = 1.0 if workload.hours != (0, 24) else 0.55 + 0.45 * math.sin((hour - 8) / 24 * 2 * math.pi)
                self.calls(workload, start_us(day, hour), HOUR_US, self._poisson(workload.per_hour * shape))

    def calls(self, workload: Workload, from_us: int, within_us: int, count: int, **changes: Any) -> list[str]:
        """`count` calls at random times in [from, from + within); their request ids."""
        at = sorted(from_us + self.rng.randrange(within_us) for _ in range(count))
        return [self.call(workload, each, **changes) for each in at]

    def call(self, workload: Workload, at_us: int, **changes: Any) -> str:
        """One answered call. `model`, `tokens` (a factor), `region` and columns of the fact may differ."""
        rng = self.rng
        seen = rng.choice(self._calls[workload.service])
        model = changes.pop("model", None) or self._pick(workload.models)
        factor = changes.pop("tokens", 1)
        region = changes.pop("region", None) or rng.choice(workload.regions)
        tokens, wrote = seen.input_tokens * factor, max(seen.output_tokens * factor, 1)
        cached = int(tokens * 0.9) if rng.random() < changes.pop("prompt_cache", workload.prompt_cache) else 0
        asks = changes.pop("gateway_cache", workload.gateway_cache) if workload.gateway_cache else 0.0
        hit = "" if not workload.gateway_cache else ("exact" if rng.random() < asks else "miss")
        status = changes.get("status", "ok")
        row = self._who(workload, at_us) | {
            "model": model,
            "served_model": model,
            "provider": _PROVIDERS.get(model.split("-")[0], "openai"),
            "region": region,
            "gateway_cache": hit,
            "status": "ok",
            "http_status": 200,
            "has_response": True,
        }
        if status == "ok" and hit != "exact":
            row |= {
                "input_text_uncached": tokens - cached,
                "input_text_cache_read": cached,
                "output_text_visible": wrote,
            }
            row |= self._price(model, tokens, wrote)
        elif hit == "exact":
            row["price_status"] = "free"
        else:
            row["price_status"] = "no_usage"
        row |= workload.more | changes
        self.facts.append(row)
        return str(row["request_id"])

    def add(self, table: str, **row: Any) -> None:
        """A row of another table."""
        self.tables.setdefault(table, []).append(row)

    def id(self) -> str:
        """A request id."""
        return f"{self.rng.getrandbits(128):032x}"

    def _who(self, workload: Workload, at_us: int) -> dict[str, Any]:
        hour = at_us // HOUR_US * HOUR_US
        request_id = self.id()
        return {
            **{"posted_hour": hour, "usage_hour": hour, "request_started_at": at_us, "occurred_at": at_us + 1_000_000},
            **{"recorded_at": at_us + 1_500_000, "gateway_id": "litellm", "request_id": request_id, "attempt": 1},
            **{"response_hash": request_id, "version": 1, "tenant_id": workload.tenant, "app_id": "app"},
            **{"workload_id": workload.name, "credential_fingerprint": workload.credential, "evidence_grade": "A"},
            **{"attribution": "attributed", "purpose": "workload", "usage_source": "reported"},
            "content_digest": request_id,
        }

    @staticmethod
    def _price(model: str, tokens: int, wrote: int) -> dict[str, Any]:
        if model not in PICO_PER_TOKEN:
            return {"price_status": "unpriced"}
        reads, writes = PICO_PER_TOKEN[model]
        cost = tokens * reads + wrote * writes
        return {
            **{"price_status": "priced", "currency": "USD", "list_cost": cost, "provider_cost": cost},
            **{"token_cost": cost, "model_cost": 0, "policy_cost": 0, "markup": 0, "charge": cost, "absorbed": 0},
        }

    def _pick(self, weighted: Sequence[tuple[str, float]]) -> str:
        return self.rng.choices([name for name, _ in weighted], [weight for _, weight in weighted])[0]

    def _poisson(self, mean: float) -> int:
        """Knuth's; means here are below a few hundred."""
        if mean > 30:
            return max(0, round(self.rng.gauss(mean, math.sqrt(mean))))
        limit, product, count = math.exp(-mean), self.rng.random(), 0
        while product > limit:
            product *= self.rng.random()
            count += 1
        return count
