"""The HTTP interface: who may post, what is answered, and that an answer of 2xx is a promise."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from support.collected import PLANTED, SECRET, changed, payload
from support.collector import TOKENS, running_collector

KONG, APISIX, OPA = payload("kong_documented"), payload("apisix_default"), payload("opa_documented")
TIMES = {"request_started_at": 1787113201000000, "occurred_at": 1787113202000000}


def plain(number: int, **fields: Any) -> dict[str, Any]:
    return {"kind": "REQUEST", "request_id": f"r-{number}", **TIMES, "tenant_id": "acme", **fields}


async def test_each_source_is_taken_at_its_path_and_is_durable_when_answered(tmp_path: Path) -> None:
    async with running_collector(tmp_path) as collector:
        for path, source, items, events in (
            ("/kong", "kong", KONG, 2),
            ("/kong", "kong", [KONG, changed(KONG, request__id="2")], 4),
            ("/apisix", "apisix", [APISIX], 2),
            ("/logs", "opa", OPA, 1),
            ("/logs/partition", "opa", OPA, 1),
            ("/v1/events", "events", [plain(1), plain(2)], 2),
        ):
            before = len(collector.events())
            answer = await collector.post(path, items, source)
            count = len(items) if isinstance(items, list) else 1
            assert (answer.status_code, answer.json()) == (
                200,
                {"accepted": count, "ignored": 0, "events": events, "refused": []},
            )
            assert len(collector.events()) == before + events


async def test_a_decision_and_the_request_that_it_is_about_have_one_id(tmp_path: Path) -> None:
    async with running_collector(tmp_path) as collector:
        await collector.post("/kong", KONG, "kong")
        await collector.post("/logs", [changed(OPA[0], input__request_id=KONG["request"]["id"])], "opa")
        events = collector.events()
        assert len({event["request_id"] for event in events}) == 1
        assert sorted(event["kind"] for event in events) == ["POLICY", "REQUEST", "RESPONSE"]


async def test_gzip_and_lines_are_taken(tmp_path: Path) -> None:
    async with running_collector(tmp_path) as collector:
        packed = gzip.compress(json.dumps(OPA).encode())
        assert (await collector.post("/logs", packed, "opa", content_encoding="gzip")).json()["accepted"] == 1
        lines = b"".join(json.dumps(plain(n)).encode() + b"\n" for n in range(3))
        answer = await collector.post("/v1/events", lines, "events", content_type="application/x-ndjson")
        assert answer.json()["accepted"] == 3


async def test_what_is_sent_twice_is_spooled_as_the_same_events(tmp_path: Path) -> None:
    async with running_collector(tmp_path) as collector:
        for path, source, item in (
            ("/kong", "kong", KONG),
            ("/apisix", "apisix", APISIX),
            ("/v1/events", "events", plain(1)),
        ):
            await collector.post(path, item, source)
            once = collector.events()
            await collector.post(path, item, source)
            said = [json.dumps(event, sort_keys=True) for event in collector.events()]
            assert {json.dumps(event, sort_keys=True) for event in once} == set(said)
            assert all(emitter.counters().dropped == 0 for emitter in collector.emitters.values())


@pytest.mark.parametrize("token", [None, "wrong", TOKENS["kong"]])
async def test_only_the_sources_own_token_may_post(tmp_path: Path, token: str | None) -> None:
    async with running_collector(tmp_path) as collector:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        answer = await collector.http.post("/v1/events", json=plain(1), headers=headers)
        if token == TOKENS["kong"]:
            assert (answer.status_code, answer.json()["error"]) == (
                403,
                "path: must be /kong for this token, whose source is kong",
            )
        else:
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="gatemeter"')
        assert collector.events() == []


async def test_bad_events_are_named_and_good_ones_beside_them_are_kept(tmp_path: Path) -> None:
    async with running_collector(tmp_path) as collector:
        answer = await collector.post("/v1/events", [plain(1), plain(2, attempt=0), 7, plain(3)], "events")
        assert answer.status_code == 207
        assert answer.json() == {
            "accepted": 2,
            "ignored": 0,
            "events": 2,
            "refused": [
                {"item": 1, "error": "REQUEST.attempt: must be an integer of 1 to 65535, got 0"},
                {"item": 2, "error": "must be a JSON object, got 7"},
            ],
        }
        assert [event["request_id"] for event in collector.events()] == ["r-1", "r-3"]
        late = {**TIMES, "request_started_at": TIMES["occurred_at"] + 1}
        answer = await collector.post("/v1/events", [plain(1, **late)], "events")
        assert answer.status_code == 422 and "request_started_at" in answer.json()["refused"][0]["error"]


async def test_products_that_send_refused_entries_for_ever_are_told_beside_a_200(tmp_path: Path) -> None:
    async with running_collector(tmp_path) as collector:
        for path, source, bad in (("/kong", "kong", {"started_at": None}), ("/logs", "opa", {"timestamp": "never"})):
            item = KONG if source == "kong" else OPA[0]
            answer = await collector.post(path, [changed(item, **bad)], source)
            assert answer.status_code == 200 and len(answer.json()["refused"]) == 1


@pytest.mark.parametrize(
    ("body", "headers", "status", "error"),
    [
        (b"nonsense", {}, 400, "body: must be JSON, got 8 bytes that are none"),
        (b"nonsense", {"content_encoding": "gzip"}, 400, "body: must be gzip, as Content-Encoding says"),
        (b"{}", {"content_encoding": "br"}, 415, "Content-Encoding: must be one of identity, gzip"),
        (b"[" + b"{}," * 20 + b"{}]", {}, 413, "body: must hold at most 20 items, got 21"),
        (b"0" * 70_000, {}, 413, "body: must be of at most 65536 bytes"),
        (gzip.compress(b"0" * 500_000), {"content_encoding": "gzip"}, 413, "at most 400000 bytes when it is unpacked"),
    ],
)
async def test_bodies_out_of_bounds(
    tmp_path: Path, body: bytes, headers: dict[str, str], status: int, error: str
) -> None:
    limits = {"max_items": 20, "max_body_bytes": 65_536, "max_unpacked_bytes": 400_000}
    async with running_collector(tmp_path, **limits) as collector:
        answer = await collector.post("/v1/events", body, "events", **headers)
        assert answer.status_code == status and error in answer.json()["error"]


async def test_a_full_spool_is_429_and_nothing_of_the_request_is_taken(tmp_path: Path) -> None:
    async with running_collector(tmp_path, max_spool_bytes=1 << 20) as collector:
        statuses = []
        for number in range(400):
            answer = await collector.post("/v1/events", [plain(number * 100 + n) for n in range(100)], "events")
            statuses.append(answer.status_code)
            if answer.status_code != 200:
                break
        assert statuses[-1] == 429 and answer.headers["retry-after"] == "5"
        assert len(collector.events()) == 100 * statuses.count(200)
        assert all(emitter.counters().dropped == 0 for emitter in collector.emitters.values())
        health = await collector.http.get("/healthz")
        assert (health.status_code, health.json()["ok"]) == (503, False)


async def test_a_request_larger_than_the_spool_is_413(tmp_path: Path) -> None:
    async with running_collector(tmp_path, max_spool_bytes=1 << 20) as collector:
        answer = await collector.post("/v1/events", [plain(n) for n in range(9000)], "events")
        assert (answer.status_code, answer.json()["error"]) == (413, "body: must fit into the spool of 1048576 bytes")


async def test_too_many_that_wait_are_429(tmp_path: Path) -> None:
    async with running_collector(tmp_path, max_waiting=1) as collector:
        held = asyncio.Event()

        async def slowly() -> Any:
            yield b"["
            await held.wait()
            yield json.dumps(plain(1)).encode() + b"]"

        headers = {"authorization": f"Bearer {TOKENS['events']}", "content-type": "application/json"}
        first = asyncio.create_task(collector.http.post("/v1/events", content=slowly(), headers=headers))
        statuses = []
        while 429 not in statuses:
            await asyncio.sleep(0.01)
            statuses.append((await collector.post("/v1/events", plain(2), "events")).status_code)
        held.set()
        assert (await first).status_code == 200


async def test_a_body_that_never_comes_is_408(tmp_path: Path) -> None:
    async with running_collector(tmp_path, read_seconds=1) as collector:
        reader, writer = await asyncio.open_connection(collector.http.base_url.host, collector.http.base_url.port)
        head = f"POST /v1/events HTTP/1.1\r\nhost: c\r\nauthorization: Bearer {TOKENS['events']}\r\ncontent-length: 99"
        writer.write(f"{head}\r\n\r\n[".encode())
        answer = (await reader.readuntil(b"}")).decode()
        writer.close()
    assert answer.startswith("HTTP/1.1 408") and "body: must come within 1 s" in answer


async def test_many_small_senders_share_the_batches_of_their_gateway(tmp_path: Path) -> None:
    async with running_collector(tmp_path) as collector:
        posts = [collector.post("/v1/events", plain(number), "events") for number in range(60)]
        assert {answer.status_code for answer in await asyncio.gather(*posts)} == {200}
        assert len(list((tmp_path / "spool" / "events").glob("*/*.seg"))) <= 2
        assert {event["request_id"] for event in collector.events()} == {f"r-{number}" for number in range(60)}


async def test_no_secret_and_no_text_is_in_spools_logs_errors_or_metrics(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    headers = {"authorization": f"Bearer {SECRET}", "x-api-key": SECRET}
    async with running_collector(tmp_path) as collector:
        answers = [
            await collector.post(
                "/kong", changed(KONG, request__headers=headers, ai__proxy__payload=list(PLANTED)), "kong"
            ),
            await collector.post("/kong", changed(KONG, started_at=SECRET, latencies__request=SECRET), "kong"),
            await collector.post("/apisix", changed(APISIX, request__body="planted prompt"), "apisix"),
            await collector.post("/logs", [changed(OPA[0], timestamp=SECRET)], "opa"),
            await collector.post("/v1/events", plain(1, attempt=SECRET), "events"),
            await collector.post("/v1/events", plain(1, **{SECRET: 1}), "events"),
            await collector.http.get("/metrics"),
            await collector.http.get("/healthz"),
        ]
        said = str(collector.events()) + "".join(answer.text for answer in answers[:5] + answers[6:]) + caplog.text
    assert "gatemeter_collector_items_total" in said
    assert not [planted for planted in (*PLANTED, *TOKENS.values()) if planted in said]


async def test_metrics_count_items_requests_and_spools(tmp_path: Path) -> None:
    async with running_collector(tmp_path) as collector:
        await collector.post("/v1/events", [plain(1), {}, plain(2)], "events")
        await collector.post("/v1/events", plain(1))
        page = (await collector.http.get("/metrics")).text
    for line in (
        'gatemeter_collector_items_total{outcome="accepted",sender="events-sender"} 2.0',
        'gatemeter_collector_items_total{outcome="refused",sender="events-sender"} 1.0',
        'gatemeter_collector_requests_total{source="events",status="207"} 1.0',
        'gatemeter_collector_requests_total{source="events",status="401"} 1.0',
        'gatemeter_spooled_events{gateway="events"} 2.0',
    ):
        assert line in page


async def test_the_description_is_served(tmp_path: Path) -> None:
    async with running_collector(tmp_path) as collector:
        description = (await collector.http.get("/openapi.json")).json()
    assert description["openapi"] == "3.1.0" and set(description["paths"]) >= {
        "/kong",
        "/apisix",
        "/logs",
        "/v1/events",
    }
