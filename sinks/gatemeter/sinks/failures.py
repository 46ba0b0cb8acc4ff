"""Which of ClickHouse's failures pass by waiting and which do not: every error becomes one of the port's two.

    clickhouse_connect.Error with a code      in `REFUSED_CODES`: SinkRefused, every other code: SinkUnavailable
    … without a code                          InterfaceError, ProgrammingError, DataError, IntegrityError,
                                              NotSupportedError (the client itself objects): SinkRefused,
                                              every other (connection, timeout, a proxy's 5xx): SinkUnavailable
    urllib3.HTTPError, OSError                SinkUnavailable
    urllib3.ProxySchemeUnsupported            SinkRefused

A code that is in no list is waited for: the design pauses when the sink fails, and a pause loses nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from clickhouse_connect.driver import exceptions as chc
from urllib3.exceptions import HTTPError, ProxySchemeUnsupported

from gatemeter.sinks.port import SinkError, SinkRefused, SinkUnavailable

# 400 of ClickHouse's server: the statement or its data cannot be read.
BAD_REQUEST_CODES: Final = frozenset(
    {6, 8, 10, 15, 16, 25, 26, 27, 36, 38, 41, 43, 44, 53, 62, 69, 72, 117, 130, 168, 271, 321, 376, 377, 427, 441, 456}
    | {457, 675, 676}
)
# 404: something that it names does not exist.
NOT_FOUND_CODES: Final = frozenset({46, 47, 50, 56, 60, 63, 73, 81, 105, 115, 149, 511})
# 403: unknown user, wrong password, authentication failed.
FORBIDDEN_CODES: Final = frozenset({192, 193, 512, 516})

REFUSED_CODES: Final = (
    BAD_REQUEST_CODES
    | NOT_FOUND_CODES
    | FORBIDDEN_CODES
    | frozenset(
        {
            20,  # NUMBER_OF_COLUMNS_DOESNT_MATCH
            42,  # NUMBER_OF_ARGUMENTS_DOESNT_MATCH
            48,  # NOT_IMPLEMENTED
            57,  # TABLE_ALREADY_EXISTS
            70,  # CANNOT_CONVERT_TYPE
            80,  # INCORRECT_QUERY
            82,  # DATABASE_ALREADY_EXISTS
            131,  # TOO_LARGE_STRING_SIZE
            164,  # READONLY
            194,  # REQUIRED_PASSWORD
            223,  # QUERY_IS_TOO_LARGE
            349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
            407,  # DECIMAL_OVERFLOW
            452,  # SETTING_CONSTRAINT_VIOLATION
            469,  # VIOLATED_CONSTRAINT
            497,  # ACCESS_DENIED
        }
    )
)

# Codes that pass only slowly: merges must catch up, memory or disk must be freed.
_SLOW_CODES: Final = frozenset({241, 243, 252, 202})
_SOON: Final = timedelta(seconds=1)
_LATER: Final = timedelta(seconds=5)
_CLIENT_OBJECTS: Final = (
    chc.InterfaceError,
    chc.ProgrammingError,
    chc.DataError,
    chc.IntegrityError,
    chc.NotSupportedError,
    ProxySchemeUnsupported,
)

# What a call of clickhouse-connect may raise: catch these and give them to `sink_error`.
FAILURES: Final = (chc.ClickHouseError, HTTPError, ProxySchemeUnsupported, OSError)


def sink_error(doing: str, error: Exception) -> SinkError:
    """The port's error for a failure of clickhouse-connect, urllib3 or a socket while `doing` something."""
    code = getattr(error, "code", None)
    text = f"ClickHouse: {doing}: {error}"
    if isinstance(code, int):
        if code in REFUSED_CODES:
            return SinkRefused(text, code)
        return SinkUnavailable(text, _LATER if code in _SLOW_CODES else _SOON)
    if isinstance(error, _CLIENT_OBJECTS):
        return SinkRefused(text)
    return SinkUnavailable(text, _SOON)
