"""A real Envoy with the example's configuration, and the tail that reads its log."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from support.conformance import Column, Served, said_of
from support.counting_provider import CountingProvider
from support.envoy import Envoy, asked, headers
from support.processes import eventually
from support.tails import KeptEvents, run_once

CHAT = "/v1/chat/completions"


class Metered:
    """An Envoy, its provider's log, and what the tail has published."""

    def __init__(self, envoy: Envoy, provider: CountingProvider, state: Path) -> None:
        self.envoy, self._provider, self._state, self._kept = envoy, provider, state, KeptEvents()

    def call(self, model: str, *, path: str = CHAT, timeout: float = 30, **more: Any) -> int | None:
        """One call, read to its end; the status, None where the answer broke off."""
        with contextlib.suppress(httpx2.TransportError):
            body = asked(model, **more)
            return httpx2.post(self.envoy.url + path, json=body, headers=headers(), timeout=timeout).status_code
        return None

    def denied(self) -> list[str]:
        """The requests that Envoy refused; each was published."""
        run_once(self.envoy.log, self._state, self._kept)
        begun = {event.request_id for event in self._kept.requests}
        return [
            event.request_id for event in self._kept.policies if event.outcome == "deny" and event.request_id in begun
        ]

    def answers(self) -> list[dict[str, Any]]:
        """All RESPONSEs."""
        return [{"kind": "RESPONSE", **msgspec.structs.asdict(event)} for event in self._kept.responses]

    def events(self, model: str) -> list[dict[str, Any]]:
        """What is published of calls of that model, when the log has their end."""

        def found() -> list[dict[str, Any]]:
            run_once(self.envoy.log, self._state, self._kept)
            kinds = {"RequestEvent": "REQUEST", "ResponseEvent": "RESPONSE", "PolicyEvent": "POLICY"}
            events = [event for event in self._kept.all if event.model == model]
            return [{"kind": kinds[type(event).__name__], **msgspec.structs.asdict(event)} for event in events]

        eventually(found, f"{model} is metered")
        return found()

    def served(self, model: str) -> list[Served]:
        """The provider's log of that model."""
        tried = [line for line in self._provider.log if line.model == model]
        return [Served(line.outcome, line.input_tokens, line.output_tokens) for line in tried]

    def compare(self, column: Column, case: str, model: str, why: str = "") -> None:
        """One call, one request, with an attempt for each try of the provider's log."""
        column.compare(case, self.served(model), said_of(self.events(model)), why)


@pytest.fixture(scope="module")
def metered(tmp_path_factory: pytest.TempPathFactory, provider: CountingProvider) -> Iterator[Metered]:
    folder = tmp_path_factory.mktemp("envoy")
    with Envoy(folder, provider.port, timeout="2s") as envoy:
        yield Metered(envoy, provider, folder / "state")


@pytest.fixture
def another(tmp_path: Path, provider: CountingProvider) -> Iterator[Metered]:
    with Envoy(tmp_path, provider.port, timeout="9s") as envoy:
        yield Metered(envoy, provider, tmp_path / "state")


@pytest.mark.parametrize(
    ("case", "model", "more", "why"),
    [
        ("ok", "ok-e1", {}, ""),
        ("ok", "ok-e2", {"path": "/v1/messages"}, ""),
        ("ok", "ok-e3", {"path": "/v1/responses"}, ""),
        ("error", "limited-e1", {}, ""),
        ("time-out", "stalls-e1", {}, ""),
        ("retry", "flaky-e1", {}, ""),
        ("retry", "down-e1", {}, ""),
        ("stream", "ok-e4", {"stream": True}, ""),
        ("stream", "ok-e5", {"stream": True, "path": "/v1/messages"}, ""),
        ("stream", "pieces-e1", {"stream": True, "path": "/v1/responses"}, ""),
        ("cut stream", "cut-e1", {"stream": True}, "what was written before the break is nobody's word"),
        (
            "cancelled stream",
            "hangs-e1",
            {"stream": True, "timeout": 0.5},
            "what was written before the caller left is nobody's word",
        ),
        ("usage absent", "absent-e1", {}, "the provider does not say"),
        ("usage absent", "absent-e2", {"stream": True}, "the provider does not say"),
        ("usage zero", "zero-e1", {}, ""),
        ("usage zero", "zero-e2", {"stream": True}, ""),
    ],
)
def test_a_call(metered: Metered, column: Column, case: str, model: str, more: dict[str, Any], why: str) -> None:
    metered.call(model, **more)
    metered.compare(column, case, model, why)


def test_a_refusal_of_envoy(metered: Metered, column: Column) -> None:
    assert metered.call("ok-denied", path="/denied" + CHAT) is not None
    eventually(metered.denied, "the denial is metered")
    [decision] = metered.denied()
    events = [event for event in metered.answers() if event["request_id"] == decision]
    column.compare("policy denial", metered.served("ok-denied"), said_of(events))


def test_cases_that_are_not_envoys(column: Column) -> None:
    column.not_applicable("fallback", "Envoy tries again in the same cluster; that is a retry")
    column.not_applicable("cache hit", "Envoy's cache answers GET requests only")


def test_two_envoys_of_one_gateway(metered: Metered, another: Metered, column: Column) -> None:
    names = [
        (which, f"ok-two-{place}-{number}") for number in range(10) for place, which in enumerate((metered, another))
    ]
    threads = [threading.Thread(target=which.call, args=(model,)) for which, model in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which, model in names:
        which.compare(column, "two processes", model)


def test_an_envoy_that_is_killed_when_its_log_is_flushed(another: Metered, column: Column) -> None:
    for number in range(5):
        another.call(f"ok-killed-{number}")
    eventually(lambda: another.envoy.log.read_bytes().count(b'"log":"request"') == 5, "the log is flushed")
    assert another.envoy.process is not None
    another.envoy.process.kill()
    for number in range(5):
        another.compare(column, "process killed", f"ok-killed-{number}")


def test_a_stream_in_flight_at_sigterm(another: Metered, column: Column) -> None:
    flying = threading.Thread(target=another.call, args=("hangs-term",), kwargs={"stream": True})
    flying.start()
    eventually(lambda: another.served("hangs-term"), "it is in flight")
    assert another.envoy.process is not None
    another.envoy.process.send(signal.SIGTERM)
    another.envoy.process.wait()
    flying.join()
    another.compare(column, "SIGTERM in flight", "hangs-term", "Envoy gives the call up, and says so")


def test_every_case_has_its_cell(column: Column) -> None:
    column.settle()
