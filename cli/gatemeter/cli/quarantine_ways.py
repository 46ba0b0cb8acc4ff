"""What to do about what was refused, by the reason of its refusal: mend the cause, then replay or discard it."""

from __future__ import annotations

from typing import Final

_REPLAY: Final = "gatemeter quarantine replay --refused-for {reason}"
_DISCARD: Final = "gatemeter quarantine discard --refused-for {reason} --reason TEXT"

WAYS: Final = {
    "unknown_key": ("register the gateway's key (gatemeter gateways add), where it is one of yours", _REPLAY),
    "key_not_valid": (
        "nothing is to be mended where the record is genuine",
        f"{_REPLAY} --admit-expired --reason TEXT",
    ),
    "unknown_fingerprint": ("install the release that knows its schema, in every worker", _REPLAY),
    "future": ("set the gateway's clock right, and wait until the time that it names has come", _REPLAY),
    "no_key_id": ("find out who writes to the topic without signing", _DISCARD),
    "bad_mac": ("somebody tampered with it, or a gateway has another secret than the workers: find out who", _DISCARD),
    "wrong_gateway": ("a key was used by another gateway than its own: find out who", _DISCARD),
    "wrong_partition": ("it was copied from another place: find out by whom", _DISCARD),
    "bad_signature": ("somebody wrote an operator's record without an operator's key: find out who", _DISCARD),
    "not_avro": ("mend the sender: what it sent stays refused", _DISCARD),
    "undecodable": ("mend the sender: what it sent stays refused", _DISCARD),
    "wrong_schema": ("mend the sender: what it sent stays refused", _DISCARD),
    "invalid": ("mend the sender: what it sent stays refused", _DISCARD),
    "epoch_expired": ("it came more than 30 days late: gatemeter adjust posts what it should have cost", _DISCARD),
}
"""By reason: what to mend or to find out, and the command that then ends it."""


def way_out(reason: str) -> str:
    """One line for people: what to mend, then the command."""
    mend, command = WAYS.get(reason, ("read what it holds (gatemeter quarantine show)", _DISCARD))
    return f"{mend}; then: {command.format(reason=reason)}"
