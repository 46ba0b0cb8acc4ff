"""How deep a run goes: `make test` has the short form of its longest tests, `make soak` the long one, and more examples
of every property. The tests are the same."""

from __future__ import annotations

import os
from typing import Final, TypeVar

IS_SOAK: Final = os.environ.get("GATEMETER_SOAK") == "on"
_T = TypeVar("_T")


def depth(short: _T, long: _T) -> _T:
    """A size of a test."""
    return long if IS_SOAK else short
