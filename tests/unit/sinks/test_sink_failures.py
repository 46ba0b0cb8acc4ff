"""Every error class of clickhouse-connect and urllib3 becomes one of the port's two failures."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import timedelta

import pytest
import urllib3.exceptions
from clickhouse_connect.driver import exceptions as chc

from gatemeter.sinks.failures import FAILURES, REFUSED_CODES, sink_error
from gatemeter.sinks.port import SinkError, SinkRefused, SinkUnavailable

CLIENT_OBJECTS = {
    "InterfaceError",
    "DataError",
    "IntegrityError",
    "ProgrammingError",
    "NotSupportedError",
    "StreamClosedError",
}
# Not failures of a call: a marker at the end of a stream, and Python warnings.
NOT_RAISED = {"StreamCompleteException", "Warning"}


def classes(module: object) -> Iterator[type[Exception]]:
    for _, found in inspect.getmembers(module, inspect.isclass):
        if issubclass(found, Exception) and found.__module__ == getattr(module, "__name__", ""):
            yield found


@pytest.mark.parametrize("kind", [k for k in classes(chc) if k.__name__ not in NOT_RAISED], ids=lambda k: k.__name__)
def test_every_class_of_clickhouse_connect_is_caught_and_mapped(kind: type[Exception]) -> None:
    assert issubclass(kind, FAILURES)
    error = kind.__new__(kind)
    Exception.__init__(error, "text")
    mapped = sink_error("insert", error)
    assert isinstance(mapped, SinkRefused if kind.__name__ in CLIENT_OBJECTS else SinkUnavailable)


@pytest.mark.parametrize(
    "kind",
    [k for k in classes(urllib3.exceptions) if not issubclass(k, Warning)],
    ids=lambda k: k.__name__,
)
def test_every_class_of_urllib3_is_waited_for_but_a_proxy_that_cannot_be(kind: type[Exception]) -> None:
    assert issubclass(kind, FAILURES)
    error = kind.__new__(kind)
    Exception.__init__(error, "text")
    for name in ("partial", "expected", "length"):  # what some of them show
        error.__dict__.setdefault(name, 0)
    expected = SinkRefused if kind is urllib3.exceptions.ProxySchemeUnsupported else SinkUnavailable
    assert isinstance(sink_error("insert", error), expected)


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError(), BrokenPipeError(), OSError()])
def test_sockets_are_waited_for(error: OSError) -> None:
    assert isinstance(error, FAILURES)
    assert isinstance(sink_error("insert", error), SinkUnavailable)


@pytest.mark.parametrize(
    "code",
    [159, 202, 209, 210, 225, 236, 241, 242, 243, 252, 279, 285, 286, 319, 394, 425, 439, 999, 1000, 1002, 12345],
)
def test_codes_that_pass_by_waiting_are_unavailable(code: int) -> None:
    mapped = sink_error("insert", chc.DatabaseError("Code", code=code))
    assert isinstance(mapped, SinkUnavailable)
    assert timedelta(0) < mapped.retry_after <= timedelta(seconds=5)


@pytest.mark.parametrize("code", sorted(REFUSED_CODES))
def test_codes_that_say_the_request_is_wrong_are_refused(code: int) -> None:
    mapped = sink_error("insert 5 rows into usage_facts", chc.OperationalError("Code", code=code))
    assert isinstance(mapped, SinkRefused)
    assert mapped.code == code
    assert "insert 5 rows into usage_facts" in str(mapped)


def test_too_many_parts_and_memory_are_given_more_time() -> None:
    slow = [sink_error("insert", chc.DatabaseError("Code", code=code)) for code in (252, 241)]
    soon = sink_error("insert", chc.OperationalError("connection"))
    assert isinstance(soon, SinkUnavailable)
    assert all(isinstance(error, SinkUnavailable) and error.retry_after > soon.retry_after for error in slow)


def test_both_are_sink_errors() -> None:
    assert issubclass(SinkUnavailable, SinkError)
    assert issubclass(SinkRefused, SinkError)
