"""Recorded payloads of providers: one JSON file each, with what they mean and cost worked out by hand."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from gatemeter.processors.metadata.views import Attribution, Plan, Rate, RateTier
from gatemeter.processors.pricing.components import Amounts, price_usage
from gatemeter.producers.usage import Usage, UsageStream, normalise

FOLDER = Path(__file__).parents[1] / "unit" / "producers" / "usage" / "payloads"
PICO_PER_MILLIONTH = 10**6
TENANT = Attribution("acme", "bot", "attributed", "cc", "bu", "org", Plan("at-cost"))


@cache
def recorded() -> dict[str, dict[str, Any]]:
    """Every file by its name without the ending."""
    return {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(FOLDER.glob("*.json"))}


def bodies(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of a stream, or the one body."""
    return record["chunks"] if "chunks" in record else [record["payload"]]


def usage_of(record: dict[str, Any], *, as_bytes: bool = False) -> Usage:
    """The record's usage, read as a hook would."""
    given = [json.dumps(body).encode() if as_bytes else body for body in bodies(record)]
    if "chunks" not in record:
        return normalise(record["shape"], given[0])
    stream = UsageStream(record["shape"])
    for chunk in given:
        stream.feed(chunk)
    return stream.usage()


def rate_of(prices: dict[str, str]) -> Rate:
    """A rate of one tier from prices per million units."""
    pico = {name: int(Decimal(price) * PICO_PER_MILLIONTH) for name, price in prices.items()}
    return Rate("recorded", "hash", "USD", (RateTier(0, pico, pico),))


def amounts_of(usage: Usage, prices: dict[str, str]) -> Amounts:
    """What the repository's own pricing makes of the usage."""
    event = {"gateway_cache": "none", "purpose": "workload", **usage.quantities}
    return price_usage(event, rate_of(prices), TENANT, "A")
