"""What a record of a gateway says of itself, authentic or not: whose sequences it would hold, its events unread.

A claim proves nothing. It lets people see whose record was refused, and find out later whether it came again.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from gatemeter.schemas import codec, limits

_MAX_NAME_LENGTH: Final = 256
_EPOCH: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}-[0-9a-fA-F]{16}")


class Claims(NamedTuple):
    """Sequences [first, next) of an epoch; blank where the record could not be read."""

    gateway_id: str = ""
    epoch: str = ""
    first_sequence: int = 0
    next_sequence: int = 0


def claims_of(value: bytes) -> Claims:
    """The claims of a record's value, blank where it is no GatewayBatch or out of range."""
    try:
        envelope, count = codec.decode_envelope(value)
    except codec.CodecError:
        return Claims()
    first = envelope["first_sequence"]
    if not _EPOCH.fullmatch(envelope["epoch"]) or len(envelope["gateway_id"]) > _MAX_NAME_LENGTH:
        return Claims()
    if not 0 <= first <= limits.MAX_SEQUENCE or count > limits.MAX_EVENTS_PER_BATCH:
        return Claims()
    return Claims(envelope["gateway_id"], envelope["epoch"], first, first + count)
