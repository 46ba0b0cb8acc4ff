"""ClickHouse's error codes and the HTTP status that its own server sends with each."""

from __future__ import annotations

import re
from typing import Final

SYNTAX_ERROR: Final = 62
NOT_IMPLEMENTED: Final = 48
UNKNOWN_USER_OR_PASSWORD: Final = 516
REQUIRED_PASSWORD: Final = 194
QUERY_IS_TOO_LARGE: Final = 223
CANNOT_DECOMPRESS: Final = 271
UNKNOWN_COMPRESSION_METHOD: Final = 89
UNKNOWN_EXCEPTION: Final = 1002

_BAD_REQUEST: Final = frozenset(
    {6, 8, 10, 15, 16, 25, 26, 27, 36, 38, 41, 43, 44, 53, 62, 69, 72, 117, 130, 168, 271, 321, 376, 377, 427, 441, 456}
    | {457, 675, 676}
)
_NOT_FOUND: Final = frozenset({46, 47, 50, 56, 60, 63, 73, 81, 105, 115, 149, 511})
_FORBIDDEN: Final = frozenset({192, 193, UNKNOWN_USER_OR_PASSWORD, 512})
_OTHERS: Final = {
    REQUIRED_PASSWORD: 401,
    QUERY_IS_TOO_LARGE: 413,
    NOT_IMPLEMENTED: 501,
    209: 503,  # SOCKET_TIMEOUT
    439: 503,  # CANNOT_SCHEDULE_TASK
    76: 503,  # CANNOT_OPEN_FILE
    159: 408,  # TIMEOUT_EXCEEDED
    381: 411,  # HTTP_LENGTH_REQUIRED
}
_CODE: Final = re.compile(r"Code: (\d+)\.")


class FrontError(Exception):
    """An error as ClickHouse would send it: `code`, and a text that begins with `Code: N. DB::Exception:`."""

    def __init__(self, code: int, message: str, name: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {message} ({name})")
        self.code = code


def code_of(text: str) -> int:
    """The code that an engine's message begins with; 1002 (UNKNOWN_EXCEPTION) where it names none."""
    found = _CODE.search(text)
    return int(found.group(1)) if found else UNKNOWN_EXCEPTION


def http_status(code: int) -> int:
    """The HTTP status for an error code; 500 for every code without one of its own."""
    if code in _BAD_REQUEST:
        return 400
    if code in _NOT_FOUND:
        return 404
    if code in _FORBIDDEN:
        return 403
    return _OTHERS.get(code, 500)
