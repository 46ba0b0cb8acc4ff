"""Accepted ranges of quantities and prices, chosen so that one fact's money fits 64 bits without a check.

tokens of an event × dearest rate = 5·10⁷ × 5·10⁹ = 2.5·10¹⁷; fees add at most 5·10¹⁷; a mark-up of 1,000 % makes
8.25·10¹⁸ in all, below 2⁶³ ≈ 9.22·10¹⁸. Amounts are in 10⁻¹² currency units ("pico").
"""

from __future__ import annotations

from typing import Final

MAX_TOKENS_PER_EVENT: Final = 50_000_000
"""Sum of an event's token buckets, and the bound of each."""

MAX_METER: Final[dict[str, int]] = {
    "images": 10_000,
    "media_ms": 1_000_000_000,
    "searches": 10_000,
    "tool_calls": 10_000,
}
"""Largest quantity of each meter in one event."""

MAX_POLICY_UNITS: Final = 10_000_000
"""Largest `units` of one policy decision."""

MAX_RATE_PICO_PER_TOKEN: Final = 5_000_000_000
"""5,000 currency units a million tokens."""

MAX_FEE_PICO: Final[dict[str, int]] = {
    "request": 10**17,
    "images": 10**13,
    "media_ms": 10**8,
    "searches": 10**13,
    "tool_calls": 10**13,
}
"""Dearest fee a unit of each meter; `request` is charged once an attempt."""

MAX_POLICY_PICO_PER_DECISION: Final = 10**15
MAX_POLICY_PICO_PER_UNIT: Final = 10**10
"""With units of 10⁷ at most 10¹⁷ a decision; the tokens it scanned, priced as those of models, add at most 2.5·10¹⁷."""

MAX_MARKUP_PPM: Final = 10_000_000
"""1,000 %."""

MAX_CACHE_PRICE_PPM: Final = 1_000_000
"""100 % of what a hit of the gateway's cache avoided."""

MAX_LATENCY_US: Final = 31 * 86_400 * 1_000_000
MAX_ATTEMPT: Final = 65_535
MAX_USAGE_REVISION: Final = 127
MAX_REQUEST_AGE_US: Final = 35 * 86_400 * 1_000_000
"""How long before `occurred_at` a request may have started."""

MAX_SEQUENCE: Final = 1 << 62
"""Highest first sequence of a batch."""

MAX_EVENTS_PER_BATCH: Final = 1_000
MAX_BATCH_BYTES: Final = 900_000
"""Largest value of a record that an emitter makes; below the topic's `max.message.bytes` of 1,000,000."""
