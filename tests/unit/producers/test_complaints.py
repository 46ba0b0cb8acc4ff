"""What the emitter has to say never harms its host, not even where the host's logging raises."""

from __future__ import annotations

import logging

import pytest

from gatemeter.producers import Emitter
from gatemeter.producers.complaints import Complaints
from support.producers import settings


class Raising(logging.Filter):
    """A filter of the host that fails."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("the host's filter is broken")


@pytest.fixture
def broken_logging() -> logging.Logger:
    return logging.getLogger("gatemeter.producers.emitter")


def test_a_logger_that_raises_does_not_reach_the_caller(broken_logging: logging.Logger) -> None:
    broken = Raising()
    broken_logging.addFilter(broken)
    try:
        Complaints().say(broken_logging, "something is wrong: %s", "this")
    finally:
        broken_logging.removeFilter(broken)


def test_a_refused_event_does_not_raise_where_logging_does(broken_logging: logging.Logger) -> None:
    broken = Raising()
    broken_logging.addFilter(broken)
    emitter = Emitter(settings(None))
    try:
        assert not emitter.request(request_id="", request_started_at=0, identity_source="mtls")
    finally:
        broken_logging.removeFilter(broken)
        emitter.close(1)
