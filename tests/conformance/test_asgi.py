"""The ASGI middleware in a gateway of its own process, served by uvicorn."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.conformance import Column, Served, said_of
from support.counting_provider import CountingProvider
from support.kafka import free_port
from support.litellm_proxy import ROOT
from support.processes import Process, Processes, eventually
from support.spools import spooled

CHAT = "/v1/chat/completions"
SECRET = "sk-planted-secret-0123456789"


class Gateways:
    """Processes of one gateway that share a spool. Their Kafka is nowhere, so all that they say stays in it."""

    def __init__(self, processes: Processes, provider: CountingProvider, folder: Path) -> None:
        self.spool = folder / "spool"
        self._processes, self._provider = processes, provider
        self._secrets = folder / "secrets.json"
        self._secrets.write_text(json.dumps({"asgi-1": "ab" * 32}))
        self._secrets.chmod(0o600)

    def start(self) -> tuple[Process, str]:
        """One more process, and its address, when it answers."""
        port = free_port()
        python = str(ROOT / ".venv-litellm" / "bin" / "python")
        words = [python, "-m", "uvicorn", "asgi_gateway:app", "--app-dir", str(ROOT / "tests" / "support")]
        process = self._processes.start(
            [*words, "--host", "127.0.0.1", "--port", str(port), "--lifespan", "off"],
            {
                "GATEMETER_BOOTSTRAP": f"127.0.0.1:{free_port()}",
                "GATEMETER_GATEWAY_ID": "asgi",
                "GATEMETER_GATEWAY_KIND": "api_gateway",
                "GATEMETER_KID": "asgi-1",
                "GATEMETER_SECRETS_FILE": str(self._secrets),
                "GATEMETER_SPOOL_FOLDER": str(self.spool),
                "PROVIDER_URL": f"http://127.0.0.1:{self._provider.port}",
            },
        )
        eventually(lambda: "Uvicorn running" in process.log or not process.running, "the gateway listens")
        assert process.running, process.log[-3000:]
        return process, f"http://127.0.0.1:{port}"

    def events(self, model: str) -> list[dict[str, Any]]:
        """What is in the spool of calls of that model, when it has their end."""

        def found() -> list[dict[str, Any]]:
            events = [event for event in spooled(self.spool) if event["model"] == model]
            return events if any(event["kind"] == "RESPONSE" for event in events) else []

        eventually(found, f"{model} is metered")
        return found()

    def served(self, model: str) -> list[Served]:
        """The provider's log of that model."""
        tried = [line for line in self._provider.log if line.model == model]
        return [Served(line.outcome, line.input_tokens, line.output_tokens) for line in tried]


@pytest.fixture(scope="module")
def gateways(provider: CountingProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    folder = tmp_path_factory.mktemp("asgi")
    with Processes(folder) as processes:
        yield Gateways(processes, provider, folder)


@pytest.fixture(scope="module")
def url(gateways: Gateways) -> str:
    return gateways.start()[1]


def call(url: str, model: str, *, stream: bool = False, text: str = "planted prompt") -> int | None:
    """One call, read to its end; the status, None where the answer broke off."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
    body |= {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    headers = {"authorization": f"Bearer {SECRET}"}
    with contextlib.suppress(httpx2.TransportError):
        return httpx2.post(url + CHAT, json=body, headers=headers, timeout=30).status_code
    return None


@pytest.mark.parametrize(
    ("case", "model", "stream", "why"),
    [
        ("ok", "ok-1", False, ""),
        ("error", "down-1", False, ""),
        ("error", "limited-1", False, ""),
        ("time-out", "stalls-1", False, ""),
        ("stream", "ok-2", True, ""),
        ("stream", "pieces-1", True, ""),
        ("cut stream", "cut-1", True, "what was written before the break is nobody's word"),
        ("usage absent", "absent-1", False, "the provider does not say"),
        ("usage absent", "absent-2", True, "the provider does not say"),
        ("usage zero", "zero-1", False, ""),
        ("usage zero", "zero-2", True, ""),
    ],
)
def test_a_call(url: str, gateways: Gateways, column: Column, case: str, model: str, stream: bool, why: str) -> None:
    call(url, model, stream=stream)
    column.compare(case, gateways.served(model), said_of(gateways.events(model)), why)


def test_a_caller_who_leaves(url: str, gateways: Gateways, column: Column) -> None:
    body = {"model": "hangs-1", "stream": True, "messages": []}
    with httpx2.Client() as client, client.stream("POST", url + CHAT, json=body) as response:
        next(response.iter_bytes())
    why = "what was written before the caller left is nobody's word"
    column.compare("cancelled stream", gateways.served("hangs-1"), said_of(gateways.events("hangs-1")), why)


def test_a_refusal_of_the_gateway(url: str, gateways: Gateways, column: Column) -> None:
    assert call(url, "ok-refused", text="forbidden") == 403
    events = gateways.events("ok-refused")
    said = list(spooled(gateways.spool))
    [decision] = [event for event in said if event["kind"] == "POLICY"]
    assert (decision["request_id"], decision["outcome"]) == (events[0]["request_id"], "deny")
    assert gateways.served("ok-refused") == []
    column.compare("policy denial", [Served("error")], said_of(events))  # the gateway's own answer, by nobody served


def test_cases_that_are_not_the_middlewares(column: Column) -> None:
    outgoing = "one call of the app is one attempt; the httpx transport meters its outgoing calls"
    column.not_applicable("retry", outgoing)
    column.not_applicable("fallback", outgoing)
    column.not_applicable("cache hit", "a cache stands before the middleware")


def test_two_processes_with_one_spool(url: str, gateways: Gateways, column: Column) -> None:
    _, second = gateways.start()
    names = [(where, f"ok-two-{where is url}-{number}") for where in (url, second) for number in range(10)]
    threads = [threading.Thread(target=call, args=name) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _, model in names:
        column.compare("two processes", gateways.served(model), said_of(gateways.events(model)))


def test_a_process_that_is_killed(gateways: Gateways, column: Column) -> None:
    process, own = gateways.start()
    for number in range(5):
        call(own, f"ok-killed-{number}")
    # A caller may have its last byte a moment before the event of it is spooled: killed in between, it is an orphan.
    gateways.events("ok-killed-4")
    process.kill()
    for number in range(5):
        model = f"ok-killed-{number}"
        column.compare("process killed", gateways.served(model), said_of(gateways.events(model)))


def test_a_call_in_flight_at_sigterm(gateways: Gateways, column: Column) -> None:
    process, own = gateways.start()
    answers: list[int | None] = []
    flying = threading.Thread(target=lambda: answers.append(call(own, "slow-1")))
    flying.start()
    eventually(lambda: any(event["model"] == "slow-1" for event in spooled(gateways.spool)), "it is in flight")
    process.send(signal.SIGTERM)
    flying.join()
    assert answers == [200]
    column.compare("SIGTERM in flight", gateways.served("slow-1"), said_of(gateways.events("slow-1")))


def test_no_secret_and_no_text_is_in_the_spool(gateways: Gateways) -> None:
    said = str(list(spooled(gateways.spool)))
    assert "ok-1" in said
    assert not [planted for planted in (SECRET, "planted", "forbidden") if planted in said]


def test_every_case_has_its_cell(column: Column) -> None:
    column.settle()
