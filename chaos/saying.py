"""What the gateways say, drawn from a seed: retries, decisions, repeats, revisions, late answers and lost ones."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from chaos.oracle import Oracle, Usage

GATEWAYS: Final = {"assistants": "inference_proxy", "code-assist": "api_gateway"}
TENANTS: Final = ("retail", "retail", "wealth", "research", "nobody")
MODELS: Final = (("openai", "gpt-4.1"), ("anthropic", "claude-sonnet"), ("internal", "llama"))
EVENTS_PER_CALL: Final = 2.2
MINUTE_US: Final = 60_000_000
LONGEST_CALL_US: Final = 6_000_000
"""From the begin of a call to the last that is said of it."""


class Said(NamedTuple):
    """An event, when it is due, and a number that keeps the order of equals."""

    due_us: int
    number: int
    gateway: str
    event: dict[str, Any]


class Speaker:
    """Makes calls and hands out their events when they are due. What it has begun, it says to the end."""

    def __init__(self, seed: int, oracle: Oracle, lose_until_us: int) -> None:
        self._rng = random.Random(seed)
        self._oracle = oracle
        self._lose_until_us = lose_until_us
        """Answers are lost only before this time, so that their orphans appear before the end."""
        self._coming: list[Said] = []
        self._count = 0

    @property
    def silent(self) -> bool:
        """Whether everything begun has been said."""
        return not self._coming

    def due(self, now_us: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Gateway and event of all that is to be said by now."""
        while self._coming and self._coming[0].due_us <= now_us:
            said = heapq.heappop(self._coming)
            yield said.gateway, said.event

    def call(self, now_us: int) -> None:
        """One more call of somebody."""
        rng = self._rng
        gateway, provider_model = rng.choice(tuple(GATEWAYS)), rng.choice(MODELS)
        begun_us = now_us if rng.random() > 0.005 else now_us - rng.randrange(20, 90) * MINUTE_US  # spooled since
        who = {
            "request_id": f"{rng.getrandbits(128):032x}",
            "request_started_at": begun_us,
            "tenant_id": rng.choice(TENANTS),
            "app_id": f"app-{rng.randrange(5)}",
            "credential_fingerprint": "9f86d081884c7d65",
            "end_user": f"user-{rng.randrange(200):03d}",
            "identity_source": "verified_credential",
            "workload_class": "realtime",
            "purpose": "workload",
            "gateway_cache": "none",
            "usage_revision": 0,
            "provider": provider_model[0],
            "model": provider_model[1],
            "operation": "chat",
        }
        delay_us = now_us - begun_us
        if rng.random() < 0.1:
            self._decision(gateway, who, begun_us, delay_us)
        self._attempts(gateway, who, begun_us, delay_us)

    def _say(self, gateway: str, event: dict[str, Any], delay_us: int) -> None:
        self._count += 1
        heapq.heappush(self._coming, Said(event["occurred_at"] + delay_us, self._count, gateway, event))

    def _decision(self, gateway: str, who: dict[str, Any], at_us: int, delay_us: int) -> None:
        rng = self._rng
        units = rng.randrange(3_000)
        what = {"policy_id": "pii", "policy_version": "1", "outcome": "allow", "latency_us": 900, "units": units}
        decision = {**who, **what, "decision_id": f"{rng.getrandbits(96):024x}", "attempt": 0, "occurred_at": at_us}
        self._oracle.decision({**who, "gateway": gateway}, decision["decision_id"], units)
        self._say(gateway, {**decision, "kind": "POLICY", "provider": None, "model": None, "operation": None}, delay_us)

    def _attempts(self, gateway: str, who: dict[str, Any], at_us: int, delay_us: int) -> None:
        rng = self._rng
        fails = rng.random() < 0.04
        for attempt in (1, 2) if fails else (1,):
            what = {**who, "attempt": attempt}
            call = {**what, "gateway": gateway}
            self._say(gateway, {**what, "kind": "REQUEST", "occurred_at": at_us}, delay_us)
            failed = fails and attempt == 1
            if not fails and rng.random() < 0.001 and at_us + delay_us < self._lose_until_us:
                self._oracle.attempt(call, None, answered=False)
                return
            at_us += rng.randrange(50_000, 1_500_000)
            usage = None if failed and rng.random() < 0.5 else self._usage()
            answer = {**what, **_answer(usage, failed), "kind": "RESPONSE", "occurred_at": at_us}
            self._oracle.attempt(call, usage, answered=not failed)
            self._say(gateway, answer, delay_us)
            if rng.random() < 0.004:
                self._say(gateway, {**answer, "occurred_at": at_us}, delay_us + rng.randrange(2_000_000))  # twice
            if usage is not None and rng.random() < 0.004:
                usage = self._usage()
                self._oracle.attempt(call, usage, answered=not failed)
                later = {**answer, **_answer(usage, failed), "usage_revision": 1, "occurred_at": at_us + 1_000_000}
                self._say(gateway, later, delay_us)

    def _usage(self) -> Usage:
        rng = self._rng
        return Usage(rng.randrange(1, 6_000), rng.choice((0, rng.randrange(3_000))), rng.randrange(1, 900))


def _answer(usage: Usage | None, failed: bool) -> dict[str, Any]:
    outcome = {
        "status": "error" if failed else "ok",
        "http_status": 503 if failed else 200,
        "delivered": not failed,
        "latency_us": 700_000,
        "usage_source": "missing" if usage is None else "reported",
    }
    if usage is None:
        return outcome
    tokens = {
        "input_text_uncached": usage.uncached,
        "input_text_cache_read": usage.cached,
        "output_text_visible": usage.output,
    }
    return {**outcome, **tokens}
