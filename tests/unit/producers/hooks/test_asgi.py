"""The ASGI middleware: one REQUEST and one RESPONSE whatever happens, and an app and a server that notice nothing."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from gatemeter.producers.hooks import Endpoint, Identity
from gatemeter.producers.hooks.asgi import Message, MeteringMiddleware, Receive, Scope, Send
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


class Client:
    """A server and its client: gives the request in parts, then waits or leaves, and keeps what it was sent."""

    def __init__(self, body: bytes, *, leaves: bool = False, headers: dict[str, str] | None = None) -> None:
        half = len(body) // 2
        self.incoming: list[Message] = [
            {"type": "http.request", "body": body[:half], "more_body": True},
            {"type": "http.request", "body": body[half:], "more_body": False},
        ]
        if leaves:
            self.incoming.append({"type": "http.disconnect"})
        self.headers = {"authorization": f"Bearer {SECRET}", **(headers or {})}
        self.sent: list[Message] = []
        self.gone = False

    def scope(self, path: str, method: str = "POST") -> Scope:
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        return {"type": "http", "method": method, "path": path, "headers": headers}

    async def receive(self) -> Message:
        return self.incoming.pop(0)

    async def send(self, message: Message) -> None:
        if self.gone:
            raise OSError("the client has gone")
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


class Provider:
    """An app that reads the request and answers; `after`: what it does when the parts are sent, instead of an end."""

    def __init__(self, answer: Answer, after: Callable[[Receive], Any] | None = None) -> None:
        self.answer = answer
        self.after = after
        self.scope: Scope = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        while (await receive()).get("more_body"):
            pass
        named = {"content-type": self.answer.content_type, **self.answer.headers}
        headers = [(name.encode(), value.encode()) for name, value in named.items()]
        await send({"type": "http.response.start", "status": self.answer.status, "headers": headers})
        for part in self.answer.parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if self.after is not None:
            await self.after(receive)
        else:
            await send({"type": "http.response.body", "body": b""})


def metered(app: Any, emitter: Any, **more: Any) -> MeteringMiddleware:
    return MeteringMiddleware(app, emitter=emitter, **{"identify": lambda scope: ACME, **more})


async def call(
    app: Any,
    client: Client | None = None,
    path: str = "/v1/chat/completions",
    **more: Any,
) -> tuple[RecordingEmitter, Client]:
    emitter, client = RecordingEmitter(), client or Client(json.dumps(ASKED).encode())
    await metered(app, emitter, **more)(client.scope(path), client.receive, client.send)
    return emitter, client


@pytest.mark.parametrize("case", WHOLE_ANSWERS)
async def test_an_answer_is_metered_as_what_it_is_and_passes_unchanged(case: str) -> None:
    answer, expected = WHOLE_ANSWERS[case]
    emitter, client = await call(Provider(answer))
    assert Expected.of(emitter.only) == expected
    assert client.body == b"".join(answer.parts)
    assert len(client.sent) == len(answer.parts) + 2
    assert emitter.only.delivered is (expected.status == "ok")


async def test_a_response_says_who_what_and_how_long() -> None:
    headers = {
        "x-request-id": "theirs",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "idempotency-key": "k" * 300,
    }
    provider = Provider(WHOLE_ANSWERS["stream"][0])
    emitter, _ = await call(provider, Client(json.dumps({**ASKED, "stream": True}).encode(), headers=headers))
    event = emitter.only
    assert (event.tenant_id, event.app_id, event.identity_source) == ("acme", "bot", "verified_credential")
    assert (event.provider, event.model, event.served_model) == ("openai", "gpt-4o", "gpt-4o-2024-08-06")
    assert (event.operation, event.stream, event.finish_reason) == ("chat", True, "stop")
    assert event.route == "/chat/completions"
    assert (event.client_request_id, event.idempotency_key) == ("theirs", "k" * 256)
    assert event.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert event.provider_request_id == "chatcmpl-1"
    assert event.request_id != "theirs"
    assert event.ttft_us is not None and event.latency_us is not None and 0 <= event.ttft_us <= event.latency_us
    assert provider.scope["gatemeter.call"]["request_id"] == event.request_id
    assert provider.scope["gatemeter.call"]["request_started_at"] == event.request_started_at


@pytest.mark.parametrize(
    ("peer", "said", "network"),
    [
        (("203.0.113.7", 4711), None, "203.0.113.0/24"),
        (["2001:db8:7::1", 4711], None, "2001:db8:7::/48"),
        (("10.0.0.1", 4711), "203.0.113.7", "203.0.113.0/24"),
        (("/run/gateway.sock", None), None, None),
        (None, None, None),
        (("10.0.0.1", 4711), "elsewhere", None),
    ],
)
async def test_the_callers_network_is_that_of_its_address_unless_the_host_knows_better(
    peer: Any, said: str | None, network: str | None
) -> None:
    emitter, client = RecordingEmitter(), Client(json.dumps(ASKED).encode())
    middleware = MeteringMiddleware(
        Provider(WHOLE_ANSWERS["ok"][0]), emitter=emitter, identify=lambda scope: Identity(client_address=said)
    )
    scope = {**client.scope("/v1/chat/completions"), "client": peer}
    await middleware(scope, client.receive, client.send)
    events = [*emitter.requests, *emitter.responses]
    assert [event.client_network for event in events] == [network, network]
    assert middleware.metering.errors == 0


async def test_the_request_is_published_before_the_provider_is_called() -> None:
    emitter, client = RecordingEmitter(), Client(json.dumps(ASKED).encode())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            assert not emitter.requests
        assert len(emitter.requests) == 1

    await metered(app, emitter)(client.scope("/v1/messages"), client.receive, client.send)
    assert emitter.only.status == "error"


async def test_every_chunk_is_forwarded_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    client, order = Client(json.dumps(ASKED).encode()), []

    class Reader:
        why_unread, has_error = None, False

        def __init__(self, *given: object) -> None: ...
        def feed(self, chunk: bytes) -> None:
            order.append((len(client.sent), chunk))

        def usage(self, *, is_complete: bool) -> None: ...
        def is_cut(self, usage: object) -> bool:
            return False

        def has_said_end(self, usage: object) -> bool:
            return False

    monkeypatch.setattr("gatemeter.producers.hooks.metered_call.AnswerReader", Reader)
    await call(Provider(stream(STREAM)), client)
    assert order == [(2 + number, chunk) for number, chunk in enumerate([*STREAM, b""])]


async def test_the_client_has_its_answer_before_the_response_is_published_and_that_before_the_call_returns() -> None:
    emitter, client = RecordingEmitter(), Client(json.dumps(ASKED).encode())
    published: list[int] = []

    async def send(message: Message) -> None:
        published.append(len(emitter.responses))
        await client.send(message)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Provider(whole(CHAT))(scope, receive, send)
        published.append(len(emitter.responses))

    await metered(app, emitter)(client.scope("/v1/chat/completions"), client.receive, send)
    assert published == [0, 0, 0, 1]
    assert emitter.only.usage_source == "reported"


async def wait_for_disconnect(receive: Receive) -> None:
    assert (await receive())["type"] == "http.disconnect"


async def test_a_client_that_leaves_cancels_and_what_was_said_is_a_lower_bound() -> None:
    start = b'data: {"type":"message_start","message":{"id":"m","model":"c","usage":{"input_tokens":9}}}\n\n'
    client = Client(json.dumps(ASKED).encode(), leaves=True)
    emitter, _ = await call(Provider(stream([start]), after=wait_for_disconnect), client, path="/v1/messages")
    assert Expected.of(emitter.only) == Expected("cancelled", "missing", 9)
    assert emitter.only.delivered is None


async def test_a_client_that_leaves_after_the_end_mark_has_its_answer() -> None:
    client = Client(json.dumps(ASKED).encode(), leaves=True)
    emitter, _ = await call(Provider(stream(STREAM), after=wait_for_disconnect), client)
    assert Expected.of(emitter.only) == Expected("ok", "reported", 12, 3)


async def test_a_client_that_the_server_says_has_gone_cancels() -> None:
    client = Client(json.dumps(ASKED).encode())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def leave(receive: Receive) -> None:
            client.gone = True
            await send({"type": "http.response.body", "body": STREAM[1], "more_body": True})

        await Provider(stream(STREAM[:1]), after=leave)(scope, receive, send)

    emitter = RecordingEmitter()
    with pytest.raises(OSError, match="has gone"):
        await metered(app, emitter)(client.scope("/v1/chat/completions"), client.receive, client.send)
    assert emitter.only.status == "cancelled"


class GatewayError(Exception):
    """Of the app."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (GatewayError("x"), "error"),
        (TimeoutError(), "timeout"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
async def test_an_exception_of_the_app_goes_through_and_ends_the_attempt(
    error: BaseException, status: str, begun: bool
) -> None:
    async def fail(receive: Receive) -> None:
        raise error

    async def fail_at_once(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    emitter, client = RecordingEmitter(), Client(json.dumps(ASKED).encode())
    app = metered(Provider(stream(STREAM[:1]), after=fail) if begun else fail_at_once, emitter)
    raised: BaseException | None = None
    try:
        await app(client.scope("/v1/chat/completions"), client.receive, client.send)
    except BaseException as caught:  # noqa: BLE001  whatever it is
        raised = caught
    assert raised is error
    assert Expected.of(emitter.only) == Expected(status, "missing", http_status=200 if begun else None)


async def test_an_app_that_stops_in_the_middle_is_an_error() -> None:
    async def stop(receive: Receive) -> None:
        return None

    emitter, _ = await call(Provider(stream(STREAM[:1]), after=stop))
    assert emitter.only.status == "error"


async def test_usage_that_came_before_a_stream_broke_is_reported() -> None:
    async def fail(receive: Receive) -> None:
        raise GatewayError

    emitter, client = RecordingEmitter(), Client(json.dumps(ASKED).encode())
    with pytest.raises(GatewayError):
        await metered(Provider(stream(STREAM[:4]), after=fail), emitter)(
            client.scope("/v1/chat/completions"), client.receive, client.send
        )
    assert Expected.of(emitter.only) == Expected("error", "reported", 12, 3)


@pytest.mark.parametrize(
    ("path", "provider", "operation", "model"),
    [
        ("/v1/chat/completions", "openai", "chat", "gpt-4o"),
        ("/proxy/openai/v1/responses/", "openai", "responses", "gpt-4o"),
        ("/v1/messages", "anthropic", "chat", "gpt-4o"),
        ("/v1beta/models/gemini-2.5-pro:streamGenerateContent", "google", "chat", "gemini-2.5-pro"),
        ("/openai/deployments/contoso/chat/completions", "azure", "chat", "contoso"),
        ("/v1/projects/p/locations/l/publishers/google/models/g:generateContent", "vertex", "chat", "g"),
    ],
)
async def test_a_path_says_whose_call_it_is(path: str, provider: str, operation: str, model: str) -> None:
    emitter, _ = await call(Provider(whole({})), path=path)
    event = emitter.only
    assert (event.provider, event.operation, event.model) == (provider, operation, model)
    assert event.stream is (True if "stream" in path else None)


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens", "/v1/models", "/", "/health"])
async def test_other_paths_are_left_alone(path: str) -> None:
    provider = Provider(whole({}))
    emitter, client = await call(provider, path=path)
    assert not emitter.requests and not emitter.responses
    assert "gatemeter.call" not in provider.scope and client.sent


async def test_other_methods_and_protocols_are_left_alone() -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)

    client = Client(b"")
    app_metered = metered(app, emitter := RecordingEmitter())
    for scope in (
        {"type": "lifespan"},
        {"type": "websocket", "path": "/v1/realtime"},
        client.scope("/v1/messages", "GET"),
    ):
        await app_metered(scope, client.receive, client.send)
    assert len(scopes) == 3 and not emitter.requests


async def test_endpoints_are_what_the_host_says() -> None:
    ours = (Endpoint("^/llm$", "acme-gpu", "chat", "openai_compatible"),)
    emitter, _ = await call(Provider(whole(CHAT)), path="/llm", endpoints=ours)
    assert (emitter.only.provider, emitter.only.input_text_uncached) == ("acme-gpu", 12)


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b'{"model": 7}', b'{"model": ""}', b'{"model"', b"[" * 100_000])
async def test_a_request_that_names_no_model_is_metered_without_one(body: bytes) -> None:
    emitter, _ = await call(Provider(whole(CHAT)), Client(body))
    assert (emitter.only.model, emitter.only.input_text_uncached) == (None, 12)


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model": "cheap", "model": "dear"}', "dear"),
        (b'{"x": NaN, "model": "m"}', "m"),
        (b'{"messages": ["\\ud800"], "model": "m"}', "m"),
        (b'{"model": "\\ud800"}', "?"),
        (b'{"model": "' + b"m" * 1000 + b'"}', "m" * 256),
    ],
)
async def test_a_model_is_read_as_apps_read_it_and_cannot_make_an_event_invalid(body: bytes, model: str) -> None:
    emitter, _ = await call(Provider(whole(CHAT)), Client(body))
    assert emitter.only.model == model


async def test_a_request_beyond_the_bound_is_metered_without_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatemeter.producers.hooks.asgi.MAX_REQUEST_BYTES", 32)
    emitter, _ = await call(Provider(whole(CHAT)))
    assert (emitter.only.model, emitter.only.input_text_uncached) == (None, 12)


async def test_an_answer_beyond_the_bound_has_missing_usage() -> None:
    emitter, client = await call(Provider(whole({**CHAT, "pad": "x" * 2000})), max_body_bytes=1024)
    assert Expected.of(emitter.only) == Expected("ok", "missing")
    assert len(client.body) > 2000
    with pytest.raises(ValueError, match="max_body_bytes: must be 1024 to 1073741824, got 1"):
        metered(None, emitter, max_body_bytes=1)


async def test_long_names_of_the_host_are_cut_and_unknown_callers_are_metered() -> None:
    emitter, _ = await call(Provider(whole(CHAT)), identify=lambda scope: Identity(end_user="u" * 5000))
    assert emitter.only.end_user == "u" * 1024
    emitter, _ = await call(Provider(whole(CHAT)), identify=lambda scope: None)
    assert (emitter.only.tenant_id, emitter.only.identity_source) == (None, "header_claim")


async def test_errors_of_the_hook_are_counted_and_nobody_else_notices(caplog: pytest.LogCaptureFixture) -> None:
    def identify(scope: Scope) -> Identity:
        raise KeyError(SECRET)

    client = Client(json.dumps(ASKED).encode())
    app = metered(Provider(whole(CHAT)), BrokenEmitter(), identify=identify)
    with caplog.at_level(logging.WARNING):
        await app(client.scope("/v1/chat/completions"), client.receive, client.send)
    assert json.loads(client.body) == CHAT
    assert app.metering.errors == 3
    assert len(caplog.records) == 1 and SECRET not in caplog.text


async def test_what_other_models_used_inside_an_answer_is_a_request_of_its_own() -> None:
    advisor = {"type": "advisor_message", "model": "claude-opus", "input_tokens": 5, "output_tokens": 7}
    own = {"type": "message", "input_tokens": 10, "output_tokens": 2}
    usage = {"input_tokens": 10, "output_tokens": 2, "iterations": [own, advisor]}
    emitter, _ = await call(Provider(whole({"id": "m", "model": "claude", "usage": usage})), path="/v1/messages")
    first, other = emitter.responses
    assert (first.input_text_uncached, other.input_text_uncached, other.model) == (10, 5, "claude-opus")
    assert (other.parent_request_id, len(emitter.requests)) == (first.request_id, 2)
