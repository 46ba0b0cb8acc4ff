"""A real LiteLLM proxy, call by call: what the hook spools is what the provider's own log says, attempt by attempt."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.conformance import Column, Said, said_of
from support.conformance import Served as Tried
from support.kafka import KafkaBroker
from support.litellm_provider import LiteLLMProvider, Served
from support.litellm_proxy import CALLER_KEY, PLANTED, LiteLLMProxy, as_served, asking, published
from support.processes import Processes, eventually
from support.spine import Spine
from support.spools import spooled

CALLS_END_TO_END = int(os.environ.get("GATEMETER_LITELLM_CALLS", "160"))
"""`make litellm` sends 2,000."""
FACTS = """
SELECT client_request_id, request_id, attempt, model, status, usage_source, input_text_uncached, output_text_visible,
       tenant_id, evidence_grade, status = 'error' AND http_status IS NULL AS unreached
FROM attempts WHERE has_response AND gateway_cache = 'none'
"""


async def sent_at_once(proxy: LiteLLMProxy, *calls: dict[str, Any]) -> None:
    """Most of these take their time: what is retried waits between its tries."""
    async with proxy.client() as client:
        await asyncio.gather(*(client.post(**call) for call in calls))


class Metered:
    """Two proxies with one spool folder, the first without Kafka, and the provider behind them."""

    def __init__(self, proxy: LiteLLMProxy, second: LiteLLMProxy, provider: LiteLLMProvider, spine: Spine) -> None:
        self.proxy, self.second, self.provider, self.spine = proxy, second, provider, spine

    def events(self, tag: str) -> list[dict[str, Any]]:
        return [event for event in spooled(self.proxy.spool, PLANTED) if event["client_request_id"] == tag]

    def of(self, tag: str, kind: str, outcome: str | None = None) -> list[dict[str, Any]]:
        return [e for e in self.events(tag) if e["kind"] == kind and outcome in (None, e.get("outcome"))]

    def served(self, tag: str) -> list[Served]:
        return [entry for entry in self.provider.served if entry.tag == tag]

    async def agreed(self, tag: str) -> list[dict[str, Any]]:
        """The events of a call, when they say what the provider's log says; each attempt has its one REQUEST."""

        def agree() -> bool:
            return bool(self.served(tag)) and published(self.events(tag), tag) == self.served(tag)

        try:
            eventually(agree, "the meter says what the provider says", 10)
        except AssertionError:
            assert published(self.events(tag), tag) == self.served(tag)
        events = self.events(tag)
        asked = [event["attempt"] for event in events if event["kind"] == "REQUEST"]
        assert asked == list(range(1, len(self.served(tag)) + 1))
        assert len({event["request_id"] for event in events}) == 1
        return events


@pytest.fixture(scope="module")
def metered(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metered]:
    folder: Path = tmp_path_factory.mktemp("litellm")
    with Processes(folder) as processes, LiteLLMProvider() as provider:
        spine = Spine(kafka, folder, processes, partitions=2)
        proxy = LiteLLMProxy(processes, provider.url, spine, folder / "proxy")
        second = LiteLLMProxy(processes, provider.url, spine, folder / "proxy", kafka.bootstrap)
        proxy.wait_until_ready()
        second.wait_until_ready()
        asyncio.run(sent_at_once(proxy, *CALLS.values()))
        yield Metered(proxy, second, provider, spine)


CALLS: dict[str, dict[str, Any]] = {
    "ok": asking("ok", "ok"),
    "stream": asking("ok", "stream", stream=True),
    "stream whose client asks for usage": asking("ok", "asks", stream=True, stream_options={"include_usage": True}),
    "retry": asking("flaky", "retry"),
    "retry of a stream": asking("flaky", "retrystream", stream=True),
    "all fail": asking("fails", "fails"),
    "fallback": asking("fallback", "fallback"),
    "time-out": asking("stalls", "stalls"),
    "cut stream": asking("cut", "cut", stream=True),
    "usage absent": asking("absent", "absent"),
    "usage absent in a stream": asking("absent", "absentstream", stream=True),
    "usage zero": asking("zero", "zero"),
    "usage zero in a stream": asking("zero", "zerostream", stream=True),
    "Anthropic through chat": asking("claude", "claude"),
    "Anthropic through chat, a stream": asking("claude", "claudestream", stream=True),
    "messages": asking("claude", "messages", "/v1/messages"),
    "messages, a stream": asking("claude", "messagesstream", "/v1/messages", stream=True),
    "messages that LiteLLM translates": asking("ok", "translated", "/v1/messages"),
    "responses": asking("ok", "responses", "/v1/responses"),
    "responses, a stream": asking("ok", "responsesstream", "/v1/responses", stream=True),
    "embeddings": asking("ok", "embeddings", "/v1/embeddings"),
}


@pytest.mark.parametrize("case", CALLS)
async def test_every_attempt_is_metered_as_the_provider_served_it(metered: Metered, case: str) -> None:
    events = await metered.agreed(CALLS[case]["headers"]["x-request-id"])
    assert {event["client_network"] for event in events} == {"127.0.0.0/24"}


async def test_a_client_that_leaves_a_stream_is_cancelled_with_an_estimate(metered: Metered) -> None:
    async with metered.proxy.client() as client:
        call = asking("hangs", "leaves", stream=True)
        async with client.stream("POST", **call) as response:
            async for line in response.aiter_lines():
                if "planted" in line:
                    break
    await metered.agreed("leaves")
    eventually(lambda: len(metered.of("leaves", "RESPONSE")) == 2, "LiteLLM's estimate follows", 30)
    first, *later = metered.of("leaves", "RESPONSE")
    assert (first["status"], first["usage_source"], first["usage_revision"]) == ("cancelled", "missing", 0)
    assert [event["usage_revision"] for event in later] == [1]
    assert later[0]["input_text_uncached"] > 0 and later[0]["output_text_visible"] > 0


async def test_a_client_that_leaves_before_the_answer_does_not_change_what_the_provider_bills(metered: Metered) -> None:
    async with metered.proxy.client() as client:
        with pytest.raises(httpx2.ReadTimeout):
            await client.post(**asking("slow", "impatient"), timeout=0.5)
    await metered.agreed("impatient")


async def test_an_answer_from_the_cache_says_so_and_asks_no_provider(metered: Metered) -> None:
    cache = {"use-cache": True, "ttl": 60}
    async with metered.proxy.client() as client:
        for tag in ("cached", "again"):
            call = asking("ok", "cached", cache=cache)
            await client.post(**{**call, "headers": {"x-request-id": tag}})
            eventually(lambda tag=tag: metered.of(tag, "RESPONSE"), "the call is metered")
    assert len(metered.served("cached")) == 1
    [hit] = metered.of("again", "RESPONSE")
    original = metered.served("cached")[0]
    assert (hit["gateway_cache"], hit["usage_source"], hit["status"]) == ("exact", "estimated", "ok")
    assert (hit["input_text_uncached"], hit["output_text_visible"]) == (original.input_tokens, original.output_tokens)


FORGED = {"user_api_key_team_id": "forged", "user_api_key_hash": "a" * 64, "user_api_key_auth": {"org_id": "forged"}}


async def test_the_caller_is_who_litellm_has_verified(metered: Metered) -> None:
    async with metered.proxy.client() as client:
        call = asking("ok", "who", user="end-user-1", metadata=FORGED, litellm_metadata=FORGED)
        headers = {"x-litellm-call-id": "chosen", "traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"}
        await client.post(**{**call, "headers": {**call["headers"], **headers}})
    for event in await metered.agreed("who"):
        who = event["tenant_id"], event["app_id"], event["workload_id"], event["identity_source"]
        assert who == ("acme", "bot", "ci", "verified_credential")
        assert event["credential_fingerprint"] == hashlib.sha256(CALLER_KEY.encode()).hexdigest()
        assert (event["trace_id"], event["route"]) == ("ab" * 16, "/v1/chat/completions")
        if event["kind"] != "POLICY":
            assert (event["provider"], event["model"], event["operation"]) == ("openai", "ok", "chat")
        assert event["request_id"] != "chosen"


@pytest.mark.parametrize(
    ("tag", "model", "text", "policy"),
    [
        ("nomodel", "nothing", "", "litellm.request"),
        ("forbidden", "ok", "forbidden", "words"),
    ],
)
async def test_what_the_gateway_refuses_is_a_denied_request(
    metered: Metered, tag: str, model: str, text: str, policy: str
) -> None:
    async with metered.proxy.client() as client:
        assert (await client.post(**asking(model, tag, text=text))).status_code == 400
    eventually(lambda: metered.of(tag, "POLICY", "deny"), "the refusal is metered", 10)
    [request], [decision] = metered.of(tag, "REQUEST"), metered.of(tag, "POLICY", "deny")
    assert decision["policy_id"] == policy
    assert metered.of(tag, "RESPONSE") == []
    assert request["request_id"] == decision["request_id"]
    assert request["tenant_id"] == "acme"
    assert metered.served(tag) == []


async def test_an_unknown_key_is_denied_and_nobody_is_verified(metered: Metered) -> None:
    async with metered.proxy.client() as client:
        call = asking("ok", "badkey", metadata=FORGED, litellm_metadata=FORGED)
        assert (await client.post(**{**call, "headers": {"authorization": "Bearer sk-unknown"}})).status_code == 401

    def denials() -> list[dict[str, Any]]:
        return [e for e in spooled(metered.proxy.spool, PLANTED) if e.get("policy_id") == "litellm.authentication"]

    eventually(lambda: len(denials()) == 1, "the refusal is metered", 10)
    assert (denials()[0]["tenant_id"], denials()[0]["identity_source"]) == (None, "header_claim")
    assert metered.served("badkey") == []


async def test_a_guardrail_beside_the_call_cancels_it(metered: Metered) -> None:
    async with metered.proxy.client() as client:
        assert (await client.post(**asking("slow", "moderated", text="moderated"))).status_code == 400
    eventually(lambda: metered.of("moderated", "RESPONSE"), "the call is metered")
    [response], [decision] = metered.of("moderated", "RESPONSE"), metered.of("moderated", "POLICY", "deny")
    assert (response["status"], response["usage_source"]) == ("cancelled", "missing")
    assert response["request_id"] == decision["request_id"]


async def test_an_answer_that_a_guardrail_withholds_is_paid_for(metered: Metered) -> None:
    async with metered.proxy.client() as client:
        assert (await client.post(**asking("ok", "regretted", text="regretted"))).status_code == 400
    await metered.agreed("regretted")
    eventually(lambda: metered.of("regretted", "RESPONSE")[-1]["delivered"] is False, "it was kept back")
    assert len(metered.of("regretted", "POLICY", "deny")) == 1


def test_no_secret_and_no_text_is_in_the_spool_or_in_what_the_hook_logs(metered: Metered) -> None:
    assert len(list(spooled(metered.proxy.spool, PLANTED))) > 50  # which looks for what was planted in each
    lines = [line for line in metered.proxy.process.log.splitlines() if "metered" in line or "gatemeter" in line]
    assert not [line for line in lines for planted in PLANTED if planted in line]
    assert not [line for line in lines if "could not be metered" in line]


CELLS: list[tuple[str, str, str]] = [
    *(("ok", tag, "") for tag in ("ok", "claude", "messages", "translated", "responses", "embeddings")),
    ("error", "fails", ""),
    ("time-out", "stalls", ""),
    *(("retry", tag, "") for tag in ("retry", "retrystream")),
    ("fallback", "fallback", ""),
    *(("stream", tag, "") for tag in ("stream", "asks", "claudestream", "messagesstream", "responsesstream")),
    ("cancelled stream", "leaves", "LiteLLM's own count"),
    ("usage absent", "absent", "the provider does not say; of a stream LiteLLM's own count"),
    *(("usage zero", tag, "") for tag in ("zero", "zerostream")),
    ("policy denial", "forbidden", ""),
]


@pytest.mark.parametrize(("case", "tag", "why"), CELLS)
def test_a_cell_of_the_table(metered: Metered, column: Column, case: str, tag: str, why: str) -> None:
    denied = case == "policy denial"
    said = [] if denied and not metered.of(tag, "RESPONSE") else said_of(metered.events(tag))
    column.compare(case, tried(metered.served(tag)), said, why)


def test_of_a_cut_stream_the_end_is_told_at_once(metered: Metered, column: Column) -> None:
    first = [event for event in metered.events("cut") if event.get("usage_revision") in (None, 0)]
    why = "told at once; LiteLLM's own count follows where it has one"
    column.compare("cut stream", tried(metered.served("cut")), said_of(first), why)


def test_a_cache_hit_bills_nothing(metered: Metered, column: Column) -> None:
    billed = [event for event in metered.of("again", "RESPONSE") if event["gateway_cache"] == "none"]
    column.compare("cache hit", tried(metered.served("again")), said_of(billed))


def tried(served: list[Served]) -> list[Tried]:
    """The provider's log in the table's words."""
    outcomes = {"timeout": "timeout", "cancelled": "hangs", "ok": "ok"}
    return [
        Tried(
            "cut" if entry.model == "cut" else outcomes.get(entry.status, "error"),
            entry.input_tokens,
            entry.output_tokens,
        )
        for entry in served
    ]


async def test_facts_are_what_the_provider_served_though_proxies_are_killed_and_ended(
    metered: Metered, column: Column, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    """The last calls of this file: it ends the proxy, and what all of them have spooled becomes facts."""
    worker = metered.spine.worker(clickhouse_database)
    second = metered.second
    async with metered.proxy.client() as client:
        await mixed(client, "before", CALLS_END_TO_END // 4)
        killed = [asyncio.create_task(client.post(**asking("slow", f"killed{n}"))) for n in range(8)]
        while sum(bool(metered.of(f"killed{n}", "REQUEST")) for n in range(8)) < 8:
            await asyncio.sleep(0.05)
        metered.proxy.process.kill()
        assert all(isinstance(e, httpx2.TransportError) for e in await asyncio.gather(*killed, return_exceptions=True))
    async with second.client() as client:
        await mixed(client, "after", CALLS_END_TO_END - CALLS_END_TO_END // 4)
        flying = [asyncio.create_task(client.post(**asking("slow", f"flying{n}"))) for n in range(8)]
        await asyncio.sleep(0.5)
        second.process.send(signal.SIGTERM)
        assert [answer.status_code for answer in await asyncio.gather(*flying)] == [200] * 8
        second.process.wait()
    heir = metered.spine.emitter(spool_mode="process", spool_folder=second.spool)

    def left() -> list[Path]:
        return [path for path in second.spool.rglob("*.seg") if path.parent.name != heir.epoch]

    eventually(lambda: not left(), "what the proxies have left in the spool is delivered")
    assert heir.close(60).inherited_bytes == 0
    metered.spine.wait_until_sunk(clickhouse_client, worker)
    facts = list(clickhouse_client.query(FACTS).named_results())
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    served = [entry for entry in metered.provider.served if not entry.tag.startswith(("killed", "moderated"))]
    said = [as_served(fact) for fact in facts if fact["client_request_id"] != "moderated"]
    assert list((Counter(served) - Counter(said)).elements()) == []
    unserved = Counter(said) - Counter(served)  # tries on a connection that the provider had closed before
    assert sum(unserved.values()) == sum(fact["unreached"] for fact in facts if as_served(fact) in unserved)
    assert len({(fact["request_id"], fact["attempt"]) for fact in facts}) == len(facts)
    assert {(fact["tenant_id"], fact["evidence_grade"]) for fact in facts} == {("acme", "A")}
    whole = [
        tag for tag in (f"before{n}" for n in range(40)) if {e.model for e in metered.served(tag)} <= {"ok", "zero"}
    ]
    for case, tags in (
        ("two processes", [*whole, *(tag.replace("before", "after") for tag in whole)]),
        ("process killed", whole),
        ("SIGTERM in flight", [f"flying{n}" for n in range(8)]),
    ):
        for tag in tags:
            known = [fact for fact in facts if fact["client_request_id"] == tag and not fact["unreached"]]
            column.compare(case, tried(metered.served(tag)), [said_in(fact) for fact in known])


def said_in(fact: dict[str, Any]) -> Said:
    """An attempt as its fact says it."""
    names = ("status", "usage_source", "input_text_uncached", "output_text_visible")
    return Said(*(fact[name] for name in names))


def test_every_case_has_its_cell(column: Column) -> None:
    column.settle()


MIX: dict[str, dict[str, Any]] = {
    **{name: CALLS[name] for name in CALLS if name not in ("time-out", "all fail", "fallback")},
    **{f"ok {n}": CALLS["ok"] for n in range(6)},
    **{f"stream {n}": CALLS["stream"] for n in range(6)},
}


async def mixed(client: httpx2.AsyncClient, prefix: str, count: int) -> None:
    """Calls of all kinds, sixteen at once, each with a tag of its own."""
    kinds, free = list(MIX.values()), asyncio.Semaphore(16)

    async def one(number: int) -> None:
        kind, tag = kinds[number % len(kinds)], f"{prefix}{number}"
        text = json.dumps(kind["json"]).replace(f"tag-{kind['headers']['x-request-id']}", f"tag-{tag}")
        async with free:
            await client.post(kind["url"], json=json.loads(text), headers={"x-request-id": tag})

    await asyncio.gather(*map(one, range(count)))
