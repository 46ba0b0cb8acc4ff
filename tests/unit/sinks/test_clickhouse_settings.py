"""Settings of the sink check themselves and never show the password."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gatemeter.sinks.clickhouse import ClickHouseSettings

GOOD: dict[str, Any] = {"url": "http://127.0.0.1:8123", "user": "u", "password": "secret-word"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "127.0.0.1:8123"}, "url: must be http"),
        ({"url": "tcp://host:9000"}, "url: must be http"),
        ({"database": "a; DROP"}, "database: must be letters"),
        ({"password": ""}, "password: must not be empty"),
        ({"connect_timeout": timedelta(0)}, "connect_timeout: must be 0:00:01 to 0:05:00, got 0:00:00"),
        ({"request_timeout": timedelta(hours=2)}, "request_timeout: must be 0:00:01 to 1:00:00"),
        ({"insert_quorum": 0}, "insert_quorum: must be 1 to 100 or unset, got 0"),
    ],
)
def test_a_wrong_value_is_named_with_its_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClickHouseSettings(**(GOOD | change))


def test_the_password_is_not_shown() -> None:
    assert "secret-word" not in repr(ClickHouseSettings(**GOOD))
