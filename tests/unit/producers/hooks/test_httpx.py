"""The httpx transport, sync and async: the same answers are metered alike, and clients notice nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest

from gatemeter.producers.hooks import Identity
from gatemeter.producers.hooks.httpx import AsyncMeteredTransport, MeteredTransport
from support.hooks import (
    ACME,
    ASKED,
    CHAT,
    SECRET,
    STREAM,
    WHOLE_ANSWERS,
    Answer,
    BrokenEmitter,
    Expected,
    RecordingEmitter,
    stream,
    whole,
)

URL = "http://provider.test/v1/chat/completions"
HEADERS = {"authorization": f"Bearer {SECRET}", "x-request-id": "theirs"}


class Parts(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """The parts of an answer, then an error, or waiting for ever where `hangs`."""

    def __init__(self, parts: tuple[bytes, ...], error: Exception | None = None, hangs: bool = False) -> None:
        self.parts, self.error, self.hangs, self.closed = parts, error, hangs, False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.parts
        if self.error is not None:
            raise self.error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part
        if self.hangs:
            await asyncio.Event().wait()

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


class Provider(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Answers in turn; an exception is raised instead."""

    def __init__(self, *answers: Answer | Exception, error: Exception | None = None, hangs: bool = False) -> None:
        self.answers, self.error, self.hangs = list(answers), error, hangs
        self.streams: list[Parts] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        self.streams.append(Parts(answer.parts, self.error, self.hangs))
        headers = {"content-type": answer.content_type, "x-request-id": "req_1", **answer.headers}
        return httpx2.Response(answer.status, headers=headers, stream=self.streams[-1])

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return self.handle_request(request)


def sync_client(provider: httpx2.BaseTransport, emitter: Any, **more: Any) -> httpx2.Client:
    named = {"identify": lambda request: ACME, **more}
    return httpx2.Client(transport=MeteredTransport(provider, emitter=emitter, **named))


def async_client(provider: httpx2.AsyncBaseTransport, emitter: Any, who: Identity = ACME) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=AsyncMeteredTransport(provider, emitter=emitter, identify=lambda request: who))


async def raw(kind: str, provider: Provider, emitter: RecordingEmitter, who: Identity = ACME) -> bytes:
    """The bytes that a client of a kind reads."""
    if kind == "sync":
        sync = sync_client(provider, emitter, identify=lambda request: who)
        with sync, sync.stream("POST", URL, json=ASKED, headers=HEADERS) as got:
            return b"".join(got.iter_raw())
    client = async_client(provider, emitter, who)
    async with client, client.stream("POST", URL, json=ASKED, headers=HEADERS) as response:
        return b"".join([part async for part in response.aiter_raw()])


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("case", WHOLE_ANSWERS)
async def test_an_answer_is_metered_as_what_it_is_and_passes_unchanged(case: str, kind: str) -> None:
    (answer, expected), emitter = WHOLE_ANSWERS[case], RecordingEmitter()
    provider = Provider(answer)
    assert await raw(kind, provider, emitter) == b"".join(answer.parts)
    assert Expected.of(emitter.only) == expected
    assert provider.streams[0].closed
    assert emitter.only.client_request_id == "theirs"
    whose = emitter.only.provider_request_id
    assert whose == ("req_1" if expected.status in ("error", "timeout") and answer.status >= 400 else whose)


async def test_the_callers_network_is_what_the_host_says_of_it(kind: str) -> None:
    for address, network in (("203.0.113.7", "203.0.113.0/24"), (None, None)):
        emitter = RecordingEmitter()
        who = Identity(tenant_id="acme", client_address=address)
        await raw(kind, Provider(WHOLE_ANSWERS["ok"][0]), emitter, who)
        assert emitter.only.client_network == network


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (httpx2.ConnectError("refused"), "error"),
        (httpx2.ConnectTimeout("slow"), "timeout"),
        (httpx2.ReadTimeout("slow"), "timeout"),
        (httpx2.PoolTimeout("slow"), "timeout"),
    ],
)
async def test_a_call_that_gets_no_answer_raises_as_before(error: Exception, status: str, kind: str) -> None:
    emitter = RecordingEmitter()
    with pytest.raises(type(error)):
        await raw(kind, Provider(error), emitter)
    assert Expected.of(emitter.only) == Expected(status, "missing", http_status=None)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (httpx2.RemoteProtocolError("cut"), "error"),
        (httpx2.ReadError("cut"), "error"),
        (httpx2.ReadTimeout("slow"), "timeout"),
    ],
)
async def test_a_stream_that_breaks_raises_as_before(error: Exception, status: str, kind: str) -> None:
    emitter = RecordingEmitter()
    with pytest.raises(type(error)):
        await raw(kind, Provider(stream(STREAM[:2]), error=error), emitter)
    assert Expected.of(emitter.only) == Expected(status, "missing")


@pytest.mark.parametrize(("read", "status"), [(1, "cancelled"), (3, "cancelled"), (4, "ok"), (5, "ok")])
def test_a_stream_that_is_closed_early_is_cancelled_unless_it_has_told_its_end(read: int, status: str) -> None:
    emitter, provider = RecordingEmitter(), Provider(stream(STREAM))
    with sync_client(provider, emitter) as client, client.stream("POST", URL, json=ASKED) as got:
        parts = got.iter_raw()
        for _ in range(read):
            next(parts)
    assert provider.streams[0].closed
    assert emitter.only.status == status
    assert emitter.only.usage_source == ("reported" if status == "ok" else "missing")


async def test_a_task_that_is_cancelled_cancels() -> None:
    emitter = RecordingEmitter()
    task = asyncio.create_task(raw("async", Provider(stream(STREAM[:1]), hangs=True), emitter))
    while not emitter.requests:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert emitter.only.status == "cancelled"


def test_an_answer_that_the_inner_transport_has_read_is_metered() -> None:
    emitter = RecordingEmitter()
    inner = httpx2.MockTransport(lambda request: httpx2.Response(200, json=CHAT))
    with sync_client(inner, emitter) as client:
        assert client.post(URL, json=ASKED).json() == CHAT
    assert Expected.of(emitter.only) == Expected("ok", "reported", 12, 3)


def retried(client: httpx2.Client, count: int, body: dict[str, Any] = ASKED) -> None:
    client.post(URL, json=body, headers={"x-stainless-retry-count": str(count)})


def test_numbered_retries_are_attempts_of_one_request() -> None:
    emitter = RecordingEmitter()
    bad = whole({"error": {}}, 500)
    with sync_client(Provider(bad, bad, whole(CHAT)), emitter) as client:
        for count in range(3):
            retried(client, count)
    assert [(event.attempt, event.status) for event in emitter.responses] == [(1, "error"), (2, "error"), (3, "ok")]
    assert len({(event.request_id, event.request_started_at) for event in emitter.requests + emitter.responses}) == 1


def test_what_is_no_retry_of_the_last_call_is_a_request_of_its_own() -> None:
    emitter = RecordingEmitter()
    with sync_client(Provider(*[whole(CHAT)] * 5), emitter) as client:
        retried(client, 0)
        retried(client, 0)  # the same again, on purpose
        retried(client, 1, {**ASKED, "model": "other"})
        retried(client, 2)
        client.post(URL, json=ASKED)
    assert len({event.request_id for event in emitter.responses}) == 5
    assert {event.attempt for event in emitter.responses} == {1}


def test_an_error_whose_body_nobody_reads_is_an_error() -> None:
    emitter = RecordingEmitter()
    with sync_client(Provider(whole({}, 429)), emitter) as client, client.stream("POST", URL, json=ASKED):
        pass
    assert Expected.of(emitter.only) == Expected("error", "missing", http_status=429)


async def test_an_async_stream_that_is_closed_early_is_cancelled() -> None:
    emitter, provider = RecordingEmitter(), Provider(stream(STREAM), hangs=True)
    client = async_client(provider, emitter)
    async with client, client.stream("POST", URL, json=ASKED) as response:
        async for _ in response.aiter_raw():
            break
    assert provider.streams[0].closed
    assert Expected.of(emitter.only) == Expected("cancelled", "missing")


def test_other_requests_are_left_alone() -> None:
    emitter = RecordingEmitter()
    with sync_client(Provider(whole({}), whole({})), emitter) as client:
        client.get(URL)
        client.post("http://provider.test/v1/files", json={})
    assert not emitter.requests and not emitter.responses


def test_a_request_body_that_streams_is_not_read_for_its_model() -> None:
    emitter = RecordingEmitter()
    with sync_client(Provider(whole(CHAT)), emitter) as client:
        client.post(URL, content=iter([json.dumps(ASKED).encode()]))
    assert (emitter.only.model, emitter.only.input_text_uncached) == (None, 12)


async def test_errors_of_the_hook_are_counted_and_nobody_else_notices() -> None:
    transport = MeteredTransport(Provider(whole(CHAT)), emitter=BrokenEmitter(), identify=lambda request: ACME)
    with httpx2.Client(transport=transport) as client:
        assert client.post(URL, json=ASKED).json() == CHAT
    assert transport.metering.errors == 2
