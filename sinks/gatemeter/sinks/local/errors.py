"""ClickHouse's error codes and the HTTP status that its own server sends with each."""

from __future__ import annotations

import re
from typing import Final

from gatemeter.sinks.failures import BAD_REQUEST_CODES, FORBIDDEN_CODES, NOT_FOUND_CODES

SYNTAX_ERROR: Final = 62
NOT_IMPLEMENTED: Final = 48
UNKNOWN_USER_OR_PASSWORD: Final = 516
REQUIRED_PASSWORD: Final = 194
QUERY_IS_TOO_LARGE: Final = 223
CANNOT_DECOMPRESS: Final = 271
UNKNOWN_COMPRESSION_METHOD: Final = 89
UNKNOWN_EXCEPTION: Final = 1002

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
    if code in BAD_REQUEST_CODES:
        return 400
    if code in NOT_FOUND_CODES:
        return 404
    if code in FORBIDDEN_CODES:
        return 403
    return _OTHERS.get(code, 500)
