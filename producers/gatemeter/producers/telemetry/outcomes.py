"""How a call ended, from what telemetry says of it: the kind of an error, an HTTP status, a word. No text is kept."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gatemeter.producers.hooks.metered_call import Status

_TIMEOUTS: Final = ("timeout", "timedout", "deadline")
_CANCELLATIONS: Final = ("cancel", "generatorexit", "abort")
_WORDS: Final[Mapping[str, Status]] = MappingProxyType(
    {
        **dict.fromkeys(("ok", "success", "succeeded", "successful", "completed", "complete", "done"), "ok"),
        **dict.fromkeys(("error", "failed", "failure", "fail", "exception"), "error"),
        **dict.fromkeys(("timeout", "timedout"), "timeout"),
        **dict.fromkeys(("cancelled", "canceled", "aborted"), "cancelled"),
    }
)


def status_of(error: str | None, http_status: int | None, *, has_failed: bool) -> Status:
    """`error` is the kind of the failure: a class, a code, or a word; `has_failed`: it is said to be one."""
    if error is None and not has_failed and (http_status or 0) < 400:
        return "ok"
    kind = _plain(error or "")
    if any(part in kind for part in _CANCELLATIONS):
        return "cancelled"
    is_timeout = any(part in kind for part in _TIMEOUTS) or bool({kind, str(http_status)} & {"408", "504"})
    return "timeout" if is_timeout else "error"


def ended_as(word: str) -> Status | None:
    """The status that a word means; None for a word that we do not know."""
    return _WORDS.get(_plain(word))


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "").replace(" ", "")
