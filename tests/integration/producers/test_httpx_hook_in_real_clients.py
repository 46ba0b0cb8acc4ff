"""The httpx hook inside the real openai and anthropic clients, against a provider on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from gatemeter.producers.hooks.httpx import AsyncMeteredTransport, MeteredTransport
from support.hooks import ACME, SECRET, Expected, RecordingEmitter
from support.stub_provider import StubProvider

MESSAGES: Any = [{"role": "user", "content": "planted prompt"}]


@pytest.fixture
def provider() -> Iterator[StubProvider]:
    with StubProvider() as running:
        yield running


@pytest.fixture
def emitter() -> RecordingEmitter:
    return RecordingEmitter()


@pytest.fixture
def http(emitter: RecordingEmitter) -> Iterator[httpx2.Client]:
    with httpx2.Client(transport=MeteredTransport(emitter=emitter, identify=lambda request: ACME)) as client:
        yield client


Ask = Callable[..., Any]


@pytest.fixture
def openai_ask(provider: StubProvider, http: httpx2.Client) -> Ask:
    client = openai.OpenAI(api_key=SECRET, base_url=provider.url + "/v1", http_client=http, max_retries=3)
    return lambda model, **more: client.chat.completions.create(model=model, messages=MESSAGES, **more)


@pytest.fixture
def anthropic_ask(provider: StubProvider, http: httpx2.Client) -> Ask:
    client = anthropic.Anthropic(api_key=SECRET, base_url=provider.url, http_client=http, max_retries=3)
    return lambda model, **more: client.messages.create(model=model, messages=MESSAGES, max_tokens=9, **more)


@pytest.fixture(params=["openai", "anthropic"])
def ask(request: pytest.FixtureRequest) -> tuple[Ask, Expected]:
    tokens = {"openai": (12, 3), "anthropic": (9, 4)}[request.param]
    return request.getfixturevalue(f"{request.param}_ask"), Expected("ok", "reported", *tokens)


def test_an_answer_and_its_usage(ask: tuple[Ask, Expected], emitter: RecordingEmitter) -> None:
    create, expected = ask
    create("ok")
    assert Expected.of(emitter.only) == expected
    assert emitter.only.model == "ok"


def test_a_stream_and_its_usage(ask: tuple[Ask, Expected], emitter: RecordingEmitter) -> None:
    create, expected = ask
    for _ in create("ok", stream=True):
        pass
    assert Expected.of(emitter.only) == expected
    assert emitter.only.stream is True and emitter.only.ttft_us is not None


def test_retries_of_the_client_are_attempts_of_one_request(
    ask: tuple[Ask, Expected], emitter: RecordingEmitter, provider: StubProvider
) -> None:
    create, expected = ask
    create("flaky")
    assert [(event.attempt, event.status) for event in emitter.responses] == [(1, "error"), (2, "error"), (3, "ok")]
    assert len({event.request_id for event in emitter.requests + emitter.responses}) == 1
    assert Expected.of(emitter.responses[-1]) == expected
    assert len(provider.log) == 3


def test_a_client_whose_time_is_up(ask: tuple[Ask, Expected], emitter: RecordingEmitter) -> None:
    with pytest.raises((openai.APITimeoutError, anthropic.APITimeoutError)):
        ask[0]("stalls", timeout=0.2)
    assert [(event.attempt, event.status) for event in emitter.responses] == [(n, "timeout") for n in (1, 2, 3, 4)]


def test_a_stream_that_the_caller_closes(ask: tuple[Ask, Expected], emitter: RecordingEmitter) -> None:
    with ask[0]("hangs", stream=True) as chunks:
        next(iter(chunks))
    assert (emitter.only.status, emitter.only.usage_source) == ("cancelled", "missing")


def test_a_stream_that_the_provider_cuts(ask: tuple[Ask, Expected], emitter: RecordingEmitter) -> None:
    with pytest.raises((httpx2.RemoteProtocolError, openai.APIConnectionError, anthropic.APIConnectionError)):
        for _ in ask[0]("cut", stream=True):
            pass
    assert (emitter.only.status, emitter.only.usage_source) == ("error", "missing")


async def test_the_async_client_is_metered_alike(provider: StubProvider, emitter: RecordingEmitter) -> None:
    transport = AsyncMeteredTransport(emitter=emitter, identify=lambda request: ACME)
    async with httpx2.AsyncClient(transport=transport) as http:
        client = openai.AsyncOpenAI(api_key=SECRET, base_url=provider.url + "/v1", http_client=http)
        await client.chat.completions.create(model="flaky", messages=MESSAGES)
        async for _ in await client.chat.completions.create(model="ok", messages=MESSAGES, stream=True):
            pass
    attempts = [(event.attempt, event.status, event.usage_source) for event in emitter.responses]
    assert attempts == [(1, "error", "missing"), (2, "error", "missing"), (3, "ok", "reported"), (1, "ok", "reported")]
    assert len({event.request_id for event in emitter.responses}) == 2
