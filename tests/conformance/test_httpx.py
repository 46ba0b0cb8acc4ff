"""The httpx transport in the clients of openai, anthropic and google-genai, and in agents of processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import anthropic
import google.genai
import httpx2
import openai
import pytest

from gatemeter.producers import Emitter, EmitterSettings
from gatemeter.producers.hooks.httpx import MeteredTransport
from support.conformance import Column, Served, said_of
from support.counting_provider import CountingProvider
from support.hooks import ACME, SECRET
from support.kafka import die_with_parent, free_port
from support.spools import spooled

AGENT = Path(__file__).parents[1] / "support" / "calling_agent.py"
MESSAGES: Any = [{"role": "user", "content": "planted prompt"}]


class Meter:
    """A spool whose Kafka is nowhere, and the provider's log."""

    def __init__(self, folder: Path, provider: CountingProvider) -> None:
        self.spool = folder / "spool"
        self.url = f"http://127.0.0.1:{provider.port}"
        self._provider = provider
        secrets = folder / "secrets.json"
        secrets.write_text(json.dumps({"agent-1": "ab" * 32}))
        secrets.chmod(0o600)
        self.environment = {
            "GATEMETER_BOOTSTRAP": f"127.0.0.1:{free_port()}",
            "GATEMETER_GATEWAY_ID": "agent",
            "GATEMETER_GATEWAY_KIND": "agent_runtime",
            "GATEMETER_KID": "agent-1",
            "GATEMETER_SECRETS_FILE": str(secrets),
            "GATEMETER_SPOOL_FOLDER": str(self.spool),
            "PROVIDER_URL": self.url,
        }

    def requests(self, model: str) -> list[list[dict[str, Any]]]:
        """The events of calls of that model, request by request."""
        by_request: dict[str, list[dict[str, Any]]] = {}
        for event in spooled(self.spool):
            if event["model"] == model:
                by_request.setdefault(event["request_id"], []).append(event)
        return list(by_request.values())

    def served(self, model: str) -> list[Served]:
        """The provider's log of that model."""
        tried = [line for line in self._provider.log if line.model == model]
        return [Served(line.outcome, line.input_tokens, line.output_tokens) for line in tried]

    def compare(self, column: Column, case: str, model: str, why: str = "") -> None:
        """One call, one request, with an attempt for each try of the provider's log."""
        [events] = self.requests(model)
        column.compare(case, self.served(model), said_of(events), why)


@pytest.fixture(scope="module")
def meter(tmp_path_factory: pytest.TempPathFactory, provider: CountingProvider) -> Meter:
    return Meter(tmp_path_factory.mktemp("httpx"), provider)


@pytest.fixture(scope="module")
def http(meter: Meter) -> Iterator[httpx2.Client]:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in meter.environment.items():
            patched.setenv(name, value)
        emitter = Emitter(EmitterSettings.from_environment(spool_folder=meter.spool))
    with httpx2.Client(transport=MeteredTransport(emitter=emitter, identify=lambda request: ACME)) as client:
        yield client
    emitter.close(0)


@pytest.fixture(scope="module")
def chat(meter: Meter, http: httpx2.Client) -> openai.OpenAI:
    return openai.OpenAI(api_key=SECRET, base_url=meter.url + "/v1", http_client=http, max_retries=0, timeout=3)


@pytest.fixture(scope="module")
def messages(meter: Meter, http: httpx2.Client) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key=SECRET, base_url=meter.url, http_client=http, max_retries=0, timeout=3)


@pytest.fixture(scope="module")
def gemini(meter: Meter, http: httpx2.Client) -> google.genai.Client:
    options = google.genai.types.HttpOptions(base_url=meter.url, httpx_client=http, timeout=3000)
    return google.genai.Client(api_key=SECRET, http_options=options)


@pytest.mark.parametrize(
    ("case", "model", "why"),
    [
        ("ok", "ok-chat", ""),
        ("error", "down-chat", ""),
        ("time-out", "stalls-chat", ""),
        ("usage absent", "absent-chat", "the provider does not say"),
        ("usage zero", "zero-chat", ""),
    ],
)
def test_a_call(chat: openai.OpenAI, meter: Meter, column: Column, case: str, model: str, why: str) -> None:
    with contextlib.suppress(openai.APIError):
        chat.chat.completions.create(model=model, messages=MESSAGES)
    meter.compare(column, case, model, why)


@pytest.mark.parametrize(("case", "model"), [("ok", "ok-message"), ("error", "limited-message")])
def test_a_message(messages: anthropic.Anthropic, meter: Meter, column: Column, case: str, model: str) -> None:
    with contextlib.suppress(anthropic.APIError):
        messages.messages.create(model=model, messages=MESSAGES, max_tokens=9)
    meter.compare(column, case, model)


@pytest.mark.parametrize(
    ("case", "model", "why"),
    [
        ("stream", "ok-parts", ""),
        ("usage zero", "zero-parts", ""),
        ("usage absent", "absent-parts", "the provider does not say"),
        ("cut stream", "cut-parts", "what was written before the break is nobody's word"),
    ],
)
def test_a_stream(chat: openai.OpenAI, meter: Meter, column: Column, case: str, model: str, why: str) -> None:
    with contextlib.suppress(openai.APIError, httpx2.TransportError):
        for _ in chat.chat.completions.create(
            model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        ):
            pass
    meter.compare(column, case, model, why)


def test_a_streamed_message(messages: anthropic.Anthropic, meter: Meter, column: Column) -> None:
    for _ in messages.messages.create(model="ok-message-parts", messages=MESSAGES, max_tokens=9, stream=True):
        pass
    meter.compare(column, "stream", "ok-message-parts")


@pytest.mark.parametrize(
    ("case", "model", "why"),
    [
        ("ok", "ok-gemini", ""),
        ("usage zero", "zero-gemini", ""),
        ("usage absent", "absent-gemini", "the provider does not say"),
        ("error", "limited-gemini", ""),
        ("time-out", "stalls-gemini", ""),
    ],
)
def test_contents(gemini: google.genai.Client, meter: Meter, column: Column, case: str, model: str, why: str) -> None:
    with contextlib.suppress(google.genai.errors.APIError, httpx2.TransportError):
        gemini.models.generate_content(model=model, contents="planted prompt")
    meter.compare(column, case, model, why)


@pytest.mark.parametrize(
    ("case", "model", "why"),
    [
        ("stream", "ok-contents", ""),
        ("cut stream", "cut-contents", "what was written before the break is nobody's word"),
    ],
)
def test_streamed_contents(
    gemini: google.genai.Client, meter: Meter, column: Column, case: str, model: str, why: str
) -> None:
    with contextlib.suppress(google.genai.errors.APIError, httpx2.TransportError):
        for _ in gemini.models.generate_content_stream(model=model, contents="planted prompt"):
            pass
    meter.compare(column, case, model, why)


def test_a_caller_who_leaves(chat: openai.OpenAI, meter: Meter, column: Column) -> None:
    with chat.chat.completions.create(model="hangs-parts", messages=MESSAGES, stream=True) as parts:
        next(iter(parts))
    why = "what was written before the caller left is nobody's word"
    meter.compare(column, "cancelled stream", "hangs-parts", why)


def test_retries_of_the_client(chat: openai.OpenAI, meter: Meter, column: Column) -> None:
    chat.with_options(max_retries=2).chat.completions.create(model="flaky-chat", messages=MESSAGES)
    assert len(meter.served("flaky-chat")) == 2
    meter.compare(column, "retry", "flaky-chat")


def test_a_fallback_to_another_provider_is_a_request_of_its_own(
    chat: openai.OpenAI, messages: anthropic.Anthropic, meter: Meter, column: Column
) -> None:
    with pytest.raises(openai.APIStatusError):
        chat.chat.completions.create(model="down-first", messages=MESSAGES)
    messages.messages.create(model="ok-second", messages=MESSAGES, max_tokens=9)
    for model in ("down-first", "ok-second"):
        meter.compare(column, "fallback", model)


def test_cases_that_never_reach_the_transport(column: Column) -> None:
    column.not_applicable("cache hit", "nothing is sent")
    column.not_applicable("policy denial", "nothing is sent")


class Agent:
    """An agent in a process of its own."""

    def __init__(self, meter: Meter) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(AGENT)],
            env={**os.environ, **meter.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        self.hears("ready")

    @property
    def _out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def hears(self, what: str) -> None:
        line = self._out.readline().strip()
        assert line == what, line

    def asks(self, model: str, *how: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join((model, *how)) + "\n")
        self.process.stdin.flush()

    def ends(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.communicate(timeout=60)


def test_two_processes_with_one_spool(meter: Meter, column: Column) -> None:
    agents = [Agent(meter), Agent(meter)]
    for number in range(10):
        for place, agent in enumerate(agents):
            agent.asks(f"ok-two-{place}-{number}")
    for number in range(10):
        for place, agent in enumerate(agents):
            agent.hears(f"done ok-two-{place}-{number}")
            meter.compare(column, "two processes", f"ok-two-{place}-{number}")
    for agent in agents:
        agent.ends(signal.SIGKILL)


def test_a_process_that_is_killed(meter: Meter, column: Column) -> None:
    agent = Agent(meter)
    for number in range(5):
        agent.asks(f"ok-killed-{number}")
        agent.hears(f"done ok-killed-{number}")
    agent.ends(signal.SIGKILL)
    for number in range(5):
        meter.compare(column, "process killed", f"ok-killed-{number}")


def test_a_stream_in_flight_at_sigterm(meter: Meter, column: Column) -> None:
    agent = Agent(meter)
    agent.asks("hangs-sigterm", "stream")
    agent.hears("began hangs-sigterm")
    while not meter.served("hangs-sigterm"):
        assert agent.process.poll() is None
    agent.ends(signal.SIGTERM)
    meter.compare(column, "SIGTERM in flight", "hangs-sigterm", "the process gives the call up, and says so")


def test_no_secret_and_no_text_is_in_the_spool(meter: Meter) -> None:
    said = str(list(spooled(meter.spool)))
    assert "ok-chat" in said
    assert not [planted for planted in (SECRET, "planted prompt", "planted answer") if planted in said]


def test_every_case_has_its_cell(column: Column) -> None:
    column.settle()
