"""Which sides of a RESPONSE are counted from its text, because the provider reported no usage of them.

One rule for both ends: the emitter lets no other text leave the gateway, the fold counts no other. See docs/usage.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gatemeter.schemas.tables import BUCKETS, INPUT_BUCKETS, METERS, OUTPUT_BUCKETS


class Side(NamedTuple):
    """One direction: the field with its text, the bucket that an estimate fills, and all buckets of the direction."""

    name: str
    text: str
    bucket: str
    buckets: tuple[str, ...]


SIDES: Final = (
    Side("input", "uncounted_prompt", "input_text_uncached", INPUT_BUCKETS),
    Side("output", "uncounted_completion", "output_text_visible", OUTPUT_BUCKETS),
)
TEXT_FIELDS: Final = tuple(side.text for side in SIDES)
STATUSES: Final = ("ok", "cancelled", "timeout")
"""A provider bills what was read and written until then; an attempt that failed (`error`) is never estimated."""

CONSULTED: Final = (*TEXT_FIELDS, "status", "gateway_cache", "usage_source", *BUCKETS, *METERS)
"""The fields that decide."""


def uncounted_sides(event: Mapping[str, Any]) -> tuple[Side, ...]:
    """The sides that have a text and no reported number: a number is never replaced, and zero is one.

    Nothing is counted beside the provider's last word (`usage_source` reported, or not stated beside numbers): what it
    leaves out does not exist, as the output of embeddings. Nor is a hit of the gateway's cache: no provider was called.
    """
    if event["status"] not in STATUSES or event["gateway_cache"] in ("exact", "semantic"):
        return ()
    if event["usage_source"] in (None, "reported") and any(event[name] is not None for name in (*BUCKETS, *METERS)):
        return ()
    return tuple(
        side for side in SIDES if event[side.text] is not None and all(event[name] is None for name in side.buckets)
    )
