"""Records of the topic of seals, made by hand."""

from __future__ import annotations

from typing import Any

from gatemeter.processors.sealing.chain import SealsRecord
from gatemeter.schemas import codec
from gatemeter.schemas.seals import HOUR_US, NO_SEAL, seal_id
from gatemeter.schemas.signing import OperatorKey
from support.facts import NOON_US

SEALER = OperatorKey.generate("sealer-1")
OPERATOR = OperatorKey.generate("ops")


def record(offset: int, name: str, datum: dict[str, Any], key: OperatorKey) -> SealsRecord:
    """A signed record."""
    value = codec.encode(name, datum)
    return SealsRecord(offset, value, dict(key.headers(value)))


def seal_datum(number: int, previous: bytes = NO_SEAL, **changes: Any) -> dict[str, Any]:
    """The fields of a seal with the id that they give; hour `number` after 2026-03-01 12:00."""
    datum: dict[str, Any] = {
        "number": number,
        "previous": previous,
        "posted_hour": NOON_US + number * HOUR_US,
        "leaves": 0,
        "leaves_root": bytes(32),
        "entries": 0,
        "entries_root": bytes(32),
        "open_period": "",
        "partitions": [{"topic": "gatemeter.events", "partition": 0}],
        "sealed_at": NOON_US,
    } | changes
    return {"seal_id": seal_id(datum)} | datum


def close_datum(period: str, after: int) -> dict[str, Any]:
    """The fields of a close."""
    return {"period": period, "after": after, "open_points": "{}", "reason": "month end", "issued_at": NOON_US}
