"""Mixed calls of many callers at a gateway, and what the facts of them must be by the provider's own log."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable
from typing import Any

import httpx2

from support.counting_provider import PATHS, Tried
from support.envoy import asked, headers

CASES = {"ok": 76, "zero": 4, "absent": 4, "flaky": 5, "down": 2, "limited": 4, "cut": 2, "hangs": 2, "stalls": 1}
"""In a hundred calls."""
Fact = tuple[str, int, str, str, int | None, int | None]


def models(count: int, seed: int = 7) -> list[tuple[str, str, bool]]:
    """Path, model and whether it is streamed, of each call; a third of those that can be are streams."""
    chance = random.Random(seed)
    cases = [case for case, share in CASES.items() for _ in range(share)]
    drawn: list[tuple[str, str, bool]] = []
    for number in range(count):
        case, path = chance.choice(cases), chance.choice([*PATHS])
        if case in ("cut", "hangs"):
            path, stream = chance.choice(["/v1/chat/completions", "/v1/responses"]), True
        else:
            stream = path != "/v1/embeddings" and case != "stalls" and chance.random() < 1 / 3
        drawn.append((path, f"{case}-{number}", stream))
    return drawn


async def make_calls(url: str, calls: Iterable[tuple[str, str, bool]], *, at_once: int = 40) -> None:
    """Makes them all. A caller of `hangs` leaves after the first bytes."""
    limit = asyncio.Semaphore(at_once)
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(timeout=60, limits=limits, headers=dict(headers())) as client:

        async def call(path: str, model: str, stream: bool) -> None:
            body: dict[str, Any] = asked(model, stream=True) if stream else asked(model)
            async with limit:
                with contextlib.suppress(httpx2.TransportError):
                    async with client.stream("POST", url + path, json=body) as answer:
                        async for _ in answer.aiter_raw():
                            if model.startswith("hangs-"):
                                break

        await asyncio.gather(*(call(*each) for each in calls))


def facts_of(log: Iterable[Tried]) -> list[Fact]:
    """Model, attempt, status, usage source and tokens of each try of the provider, as they must be charged."""
    status = {"cut": "error", "hangs": "cancelled"}
    facts: list[Fact] = []
    for tried in log:
        source = "missing" if tried.input_tokens is None else "reported"
        said = (tried.input_tokens, tried.output_tokens)
        facts.append((tried.model, tried.attempt, status.get(tried.outcome, tried.outcome), source, *said))
    return sorted(facts)
