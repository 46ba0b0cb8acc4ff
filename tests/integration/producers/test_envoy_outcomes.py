"""A real Envoy in front of a provider: what its log says of each way in which a request can end."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gatemeter.producers import ResponseEvent
from support.certificates import Certificates
from support.counting_provider import PLANTED_ANSWER, CountingProvider
from support.envoy import EXAMPLE, KEY, PROMPT, Envoy, asked, headers
from support.processes import eventually
from support.tails import KeptEvents, run_once

CHAT, RESPONSES, MESSAGES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"


@dataclass
class System:
    """An Envoy, its provider, and a tail whose state stays between looks."""

    envoy: Envoy
    provider: CountingProvider
    state: Path
    kept: KeptEvents

    def call(self, path: str, model: str, *, timeout: float = 10, **more: Any) -> httpx2.Response | None:
        """One call as a client makes it; None where the client saw no whole answer."""
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.post(self.envoy.url + path, json=asked(model, **more), headers=headers(), timeout=timeout)
        return None

    def of(self, model: str) -> list[ResponseEvent]:
        """The attempts of the call with that model, once the log has it."""

        def found() -> list[ResponseEvent]:
            run_once(self.envoy.log, self.state, self.kept)
            return [event for event in self.kept.responses if event.model == model]

        eventually(found, f"the log has {model}")
        return found()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("envoy")
    with CountingProvider() as provider, Envoy(folder, provider.port) as envoy:
        yield System(envoy, provider, folder / "state", KeptEvents())


def said(event: ResponseEvent) -> tuple[Any, ...]:
    return (event.attempt, event.status, event.delivered, event.http_status, event.usage_source)


def tokens(event: ResponseEvent) -> tuple[int | None, int | None]:
    return event.input_text_uncached, event.output_text_visible


@pytest.mark.parametrize(
    ("path", "stream", "operation"),
    [
        (CHAT, False, "chat"),
        (CHAT, True, "chat"),
        (RESPONSES, False, "responses"),
        (RESPONSES, True, "responses"),
        (MESSAGES, False, "chat"),
        (MESSAGES, True, "chat"),
        (EMBEDDINGS, False, "embeddings"),
    ],
)
@pytest.mark.parametrize("case", ["ok", "zero", "absent", "pieces"])
def test_usage_is_what_the_provider_said_whole_and_streamed(
    system: System, path: str, stream: bool, operation: str, case: str
) -> None:
    model = f"{case}-{path.rsplit('/')[-1]}{'-stream' * stream}"
    answer = system.call(path, model, **({"stream": True} if stream else {}))
    assert answer is not None and answer.status_code == 200
    (event,) = system.of(model)
    (tried,) = [line for line in system.provider.log if line.model == model]
    assert said(event) == (1, "ok", True, 200, "missing" if case == "absent" else "reported")
    assert tokens(event) == (tried.input_tokens, tried.output_tokens)
    assert (event.operation, event.served_model, event.tenant_id) == (operation, f"served-{model}", "acme")
    assert (event.client_request_id, event.identity_source) == ("the-callers-own", "verified_credential")
    assert event.client_network == "127.0.0.0/24"
    assert event.provider == ("anthropic" if path == MESSAGES else "openai")
    assert event.stream is (True if stream else None)
    assert event.latency_us and event.ttft_us and event.ttft_us <= event.latency_us
    assert event.request_id != "the-callers-own" and len(event.request_id) == 32


def test_a_streamed_chat_is_asked_for_its_usage_whatever_options_it_has(system: System) -> None:
    for number, options in enumerate(({"include_usage": False}, {"include_obfuscation": False}, {})):
        model = f"ok-options{number}"
        system.call(CHAT, model, stream=True, stream_options=options)
        (event,) = system.of(model)
        assert event.usage_source == "reported"
        assert system.provider.bodies[model]["stream_options"] == {**options, "include_usage": True}
        assert system.provider.bodies[model]["messages"] == asked(model)["messages"]


def test_a_failed_try_and_the_one_that_answers_are_two_attempts(system: System) -> None:
    assert system.call(CHAT, "flaky-1") is not None
    first, second = system.of("flaky-1")
    assert (said(first), said(second)) == ((1, "error", False, 500, "missing"), (2, "ok", True, 200, "reported"))
    assert first.request_id == second.request_id
    assert tokens(second) == (system.provider.log[-1].input_tokens, system.provider.log[-1].output_tokens)
    assert first.latency_us is not None and second.latency_us is not None


def test_all_tries_that_fail_are_errors(system: System) -> None:
    system.call(CHAT, "down-1")
    assert [said(event) for event in system.of("down-1")] == [
        (attempt, "error", False, 500, "missing") for attempt in (1, 2, 3)
    ]


def test_a_provider_that_says_slow_down_is_an_error_of_one_attempt(system: System) -> None:
    system.call(CHAT, "limited-1")
    assert [said(event) for event in system.of("limited-1")] == [(1, "error", False, 429, "missing")]


def test_a_refused_connection_is_three_attempts_without_an_answer(system: System) -> None:
    system.call("/refused" + CHAT, "ok-refused")
    events = system.of("ok-refused")
    assert [said(event)[:4] for event in events] == [
        (1, "error", False, None),
        (2, "error", False, None),
        (3, "error", False, 503),
    ]
    assert not [line for line in system.provider.log if line.model == "ok-refused"]


@pytest.mark.parametrize(
    ("path", "model", "more", "expected"),
    [
        (CHAT, "hangs-left", {"stream": True, "timeout": 0.3}, (1, "cancelled", None, 200, "missing")),
        (CHAT, "stalls-left", {"timeout": 0.3}, (1, "cancelled", None, None, "missing")),
        (CHAT, "stalls-timeout", {}, (1, "timeout", False, 504, "missing")),
        (CHAT, "hangs-timeout", {"stream": True}, (1, "timeout", False, 200, "missing")),
        (CHAT, "cut-1", {"stream": True}, (1, "error", False, 200, "missing")),
        (MESSAGES, "cut-2", {"stream": True}, (1, "error", False, 200, "missing")),
        (RESPONSES, "cut-3", {"stream": True}, (1, "error", False, 200, "missing")),
    ],
)
def test_code_200_is_not_success(
    system: System, path: str, model: str, more: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    system.call(path, model, **more)
    (event,) = system.of(model)
    assert said(event) == expected
    assert event.output_text_visible is None
    assert (event.input_text_uncached is not None) is (path == MESSAGES)  # a lower bound, and never charged


def test_a_stream_that_is_idle_is_a_time_out(tmp_path: Path) -> None:
    with CountingProvider() as provider, Envoy(tmp_path, provider.port, timeout="30s", idle="0.4s") as envoy:
        system = System(envoy, provider, tmp_path / "state", KeptEvents())
        system.call(CHAT, "hangs-idle", stream=True)
        assert [said(event) for event in system.of("hangs-idle")] == [(1, "timeout", False, 200, "missing")]


def test_tries_that_each_had_a_time_limit_are_time_outs(tmp_path: Path) -> None:
    def limited(listener: dict[str, Any]) -> None:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        manager["route_config"]["virtual_hosts"][0]["retry_policy"]["per_try_timeout"] = "0.2s"

    with CountingProvider() as provider, Envoy(tmp_path, provider.port, timeout="9s", listener=limited) as envoy:
        system = System(envoy, provider, tmp_path / "state", KeptEvents())
        system.call(CHAT, "stalls-each")
        assert [said(event) for event in system.of("stalls-each")] == [
            (1, "timeout", False, None, "missing"),
            (2, "timeout", False, None, "missing"),
            (3, "timeout", False, 504, "missing"),
        ]


def test_two_envoys_and_two_tails_of_one_gateway_never_share_a_request_id(tmp_path: Path) -> None:
    ids: list[str] = []
    with CountingProvider() as provider:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            with Envoy(tmp_path / name, provider.port) as envoy:
                system = System(envoy, provider, tmp_path / name / "state", KeptEvents())
                system.call(CHAT, f"ok-{name}")
                ids += [event.request_id for event in system.of(f"ok-{name}")]
    assert len(set(ids)) == 2


def test_the_example_is_valid_as_it_stands(tmp_path: Path) -> None:
    text = (EXAMPLE / "envoy.yaml").read_text("utf-8")
    (tmp_path / "envoy.yaml").write_text(text.replace("/var/log/envoy", str(tmp_path)))
    command = [str(files("envoy") / "_bin" / "envoy"), "--mode", "validate", "-c", str(tmp_path / "envoy.yaml")]
    done = subprocess.run([*command, "-l", "error"], cwd=EXAMPLE, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_what_a_policy_of_envoy_refuses_is_a_denial_and_no_attempt(system: System) -> None:
    known, before = len(system.kept.policies), len(system.provider.log)
    system.call("/limited" + CHAT, "ok-first-is-free")
    assert system.of("ok-first-is-free")[0].status == "ok"
    assert system.call("/limited" + CHAT, "ok-limited").status_code == 429  # type: ignore[union-attr]
    assert system.call("/denied" + CHAT, "ok-denied").status_code in (403, 404)  # type: ignore[union-attr]
    bad = {"authorization": "Bearer sk-planted-unknown", "x-gatemeter-tenant": "acme"}
    assert httpx2.post(system.envoy.url + CHAT, json=asked("ok-bad-key"), headers=bad).status_code == 401
    eventually(
        lambda: run_once(system.envoy.log, system.state, system.kept) and len(system.kept.policies) == known + 3,
        "the log has the denials",
    )
    denials = system.kept.policies[known:]
    assert [(event.policy_id, event.outcome, event.attempt) for event in denials] == [
        ("envoy/local_ratelimit", "deny", 0),
        ("envoy/ext_authz", "deny", 0),
        ("envoy/api_key_auth", "deny", 0),
    ]
    denied = {event.request_id for event in denials}
    assert denied.isdisjoint(event.request_id for event in system.kept.responses)
    assert denied <= {event.request_id for event in system.kept.requests}
    assert [event.tenant_id for event in denials] == ["acme", "acme", None]
    assert len(system.provider.log) == before + 1


def test_what_has_no_route_is_an_error_without_a_provider(system: System) -> None:
    before = len(system.provider.log)
    system.call("/nowhere" + CHAT, "ok-nowhere")
    assert [said(event) for event in system.of("ok-nowhere")] == [(1, "error", False, 404, "missing")]
    assert len(system.provider.log) == before


def test_nobody_can_claim_to_be_a_verified_tenant_or_choose_the_request_id(system: System) -> None:
    forged = {**headers(), "x-gatemeter-tenant": "victim", "x-gatemeter-client-request-id": "forged"}
    for _ in range(2):
        httpx2.post(system.envoy.url + CHAT, json=asked("ok-forged"), headers=forged)
    eventually(lambda: len(system.of("ok-forged")) == 2, "both calls are in the log")
    first, second = system.of("ok-forged")
    assert first.request_id != second.request_id
    assert {event.tenant_id for event in (first, second)} == {"acme"}
    assert {event.client_request_id for event in (first, second)} == {"the-callers-own"}


def test_a_provider_gets_its_own_key_and_learns_nothing_of_the_caller(system: System) -> None:
    system.call(CHAT, "ok-keys")
    assert system.provider.headers["authorization"] == "Bearer sk-planted-openai"
    system.call(MESSAGES, "ok-more-keys")
    assert system.provider.headers["x-api-key"] == "sk-planted-anthropic"
    assert KEY not in repr(system.provider.headers)
    assert not [name for name in system.provider.headers if "gatemeter" in name]


def test_a_request_of_many_megabytes_is_read(system: System) -> None:
    large = asked("ok-large", input=["x" * 100] * 100_000)
    assert httpx2.post(system.envoy.url + EMBEDDINGS, json=large, headers=headers(), timeout=30).status_code == 200
    (event,) = system.of("ok-large")
    assert event.usage_source == "reported"


def test_no_prompt_no_answer_and_no_credential_is_in_the_log_or_in_an_event(system: System) -> None:
    planted = httpx2.post(
        system.envoy.url + CHAT + "?key=sk-planted-query",
        json=asked("ok-planted", stream=True),
        headers=headers(cookie="planted-cookie", **{"x-other": "planted-other"}),
    )
    assert PLANTED_ANSWER[:14] in planted.text
    system.of("ok-planted")
    log = system.envoy.log.read_text()
    for secret in (KEY, "sk-planted", PROMPT[:14], PLANTED_ANSWER[:14], "planted-cookie", "planted-other"):
        assert secret not in log, secret
        assert secret not in repr(system.kept.all)


def test_a_call_over_mutual_tls_is_the_workload_of_its_certificate(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path, "spiffe://acme.test/ns/bots/sa/quote")
    with (
        CountingProvider() as provider,
        Envoy(tmp_path, provider.port, listener=certificates.require) as envoy,
    ):
        system = System(envoy, provider, tmp_path / "state", KeptEvents())
        with httpx2.Client(verify=certificates.context) as client:
            url = envoy.url.replace("http:", "https:") + CHAT
            assert client.post(url, json=asked("ok-mtls"), headers=headers()).status_code == 200
        (event,) = system.of("ok-mtls")
        assert (event.workload_id, event.identity_source) == ("spiffe://acme.test/ns/bots/sa/quote", "mtls")


def test_envoy_loses_nothing_at_sigterm(tmp_path: Path) -> None:
    with CountingProvider() as provider, Envoy(tmp_path, provider.port) as envoy:
        with httpx2.Client() as client:
            for number in range(20):
                client.post(envoy.url + CHAT, json=asked(f"ok-{number}"), headers=headers())
        assert envoy.process is not None
        envoy.process.send(signal.SIGTERM)
        envoy.process.wait()
        kept = KeptEvents()
        run_once(envoy.log, tmp_path / "state", kept)
        assert [event.model for event in kept.responses] == [f"ok-{number}" for number in range(20)]
