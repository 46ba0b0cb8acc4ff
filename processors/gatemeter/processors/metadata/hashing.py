"""The content hash of a rate card: BLAKE2b-256 of its canonical JSON, so that a card is known by what it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical_json(content: Any) -> bytes:
    """JSON without blanks, keys sorted, UTF-8; only integers, strings, booleans, null, lists and objects."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def card_content_hash(card: Mapping[str, Any]) -> str:
    """64 hex digits over all fields of a RateCard record but `content_hash`; times are ints of microseconds."""
    content = {name: value for name, value in card.items() if name != "content_hash"}
    return hashlib.blake2b(canonical_json(content), digest_size=32).hexdigest()
