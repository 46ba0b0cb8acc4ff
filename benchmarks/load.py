"""What every contender is given: one stream of realistic events, encoded once, cut into signed batches of any size.

REQUEST and RESPONSE pairs interleave with about two thousand requests in flight; some are preceded by a policy
decision, some attempts fail and are tried again, some responses are said twice and some batches are sent twice.
"""

from __future__ import annotations

import heapq
import json
import multiprocessing
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple

from gatemeter.cli.demo.people import CALLERS, GATEWAY_OF, Caller, Model
from gatemeter.schemas import codec, signing
from gatemeter.schemas.partitions import partition_of

REQUESTS_PER_S: Final = 3_000
"""Pace of the gateways' clocks; with the latencies below, 2,000 and more requests are in flight at a time."""
PART_EVENTS: Final = 50_000
SHARE_DECISION, SHARE_FAILED, SHARE_REPEATED, SHARE_LOST, SHARE_RESENT = 0.08, 0.03, 0.003, 0.001, 0.005
FAILURES: Final = (("error", 429), ("error", 503), ("timeout", 504))


class Said(NamedTuple):
    """One encoded event and where it goes."""

    gateway: str
    partition: int
    body: bytes


@dataclass(frozen=True)
class Wire:
    """How a gateway's events travel: `kids` and `secrets` by gateway id, `epoch` of the one emitter of each."""

    topic: str
    partitions: int
    kids: dict[str, str]
    secrets: dict[str, bytes]
    epoch: str


class Record(NamedTuple):
    """One Kafka record, ready to be sent."""

    partition: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def stream(events: int, partitions: int, start_us: int) -> list[Said]:
    """`events` events in the order of their time from `start_us` on; always the same for the same arguments."""
    parts = [
        (number, min(PART_EVENTS, events - begin), partitions, start_us)
        for number, begin in enumerate(range(0, events, PART_EVENTS))
    ]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return [said for part in pool.starmap(_part, parts) for said in part]


def seconds_of(events: int) -> float:
    """How much time `events` events span by the gateways' clocks, with room."""
    return (events / PART_EVENTS + 1) * _part_us() / 1_000_000


def records(said: Sequence[Said], per_batch: int, wire: Wire) -> Iterator[Record]:
    """The events in batches of `per_batch`, numbered and signed as the gateways' emitters would."""
    rng = random.Random(per_batch)
    waiting: dict[tuple[str, int], list[bytes]] = {}
    sequences: dict[tuple[str, int], int] = {}
    for gateway, partition, body in said:
        place = (gateway, partition)
        bodies = waiting.setdefault(place, [])
        bodies.append(body)
        if len(bodies) == per_batch:
            yield from _sent(wire, place, bodies, sequences, rng.random() < SHARE_RESENT)
            waiting[place] = []
    for place, bodies in waiting.items():
        if bodies:
            yield from _sent(wire, place, bodies, sequences, False)


def _sent(
    wire: Wire, place: tuple[str, int], bodies: list[bytes], sequences: dict[tuple[str, int], int], twice: bool
) -> Iterator[Record]:
    gateway, partition = place
    first = sequences.get(place, 0)
    sequences[place] = first + len(bodies)
    envelope = {
        "gateway_id": gateway,
        "gateway_kind": "inference_proxy",
        "epoch": wire.epoch,
        "topic": wire.topic,
        "partition": partition,
        "first_sequence": first,
        "sent_at": int(wire.epoch.split("-")[0]),
        "counters": {"emitted": first + len(bodies), "spooled": 0, "dropped": 0},
        "closed": False,
    }
    value = codec.encode_batch(envelope, bodies)
    kid = wire.kids[gateway]
    headers = [(signing.KID_HEADER, kid.encode()), (signing.MAC_HEADER, signing.mac(wire.secrets[kid], value))]
    record = Record(partition, gateway.encode(), value, headers)
    yield record
    if twice:
        yield record


# -- events


def _part_us() -> int:
    return PART_EVENTS * 1_000_000 // (2 * REQUESTS_PER_S)


def _part(number: int, events: int, partitions: int, start_us: int) -> list[Said]:
    """One part of the stream; parts share nothing, so that several processes can make them."""
    rng = random.Random(number)
    said = islice(_in_order(rng, start_us + number * _part_us()), events)
    return [
        Said(gateway, partition_of(event["request_id"], partitions), codec.encode_event(event))
        for gateway, event in said
    ]


def _in_order(rng: random.Random, start_us: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Events without end, by time: those of a request come in as it begins and wait in a heap for their turn."""
    coming: list[tuple[int, int, str, dict[str, Any]]] = []
    count = 0
    at_us = start_us
    while True:
        at_us += int(rng.expovariate(REQUESTS_PER_S) * 1_000_000)
        while coming and coming[0][0] <= at_us:
            _, _, gateway, event = heapq.heappop(coming)
            yield gateway, event
        for gateway, event in _call(rng, at_us):
            count += 1
            heapq.heappush(coming, (event["occurred_at"], count, gateway, event))


def _call(rng: random.Random, at_us: int) -> Iterator[tuple[str, dict[str, Any]]]:
    service = rng.choice(("conversation", "conversation", "code"))
    gateway = GATEWAY_OF[service]
    caller = rng.choices(CALLERS[service], [caller.share for caller in CALLERS[service]])[0]
    model = rng.choices([model for _, model in caller.models], [share for share, _ in caller.models])[0]
    who = _who(rng, caller, at_us)
    if rng.random() < SHARE_DECISION:
        yield gateway, {**who, **_decision(rng, caller), "attempt": 0, "occurred_at": at_us}
    attempt, failed = 1, rng.random() < SHARE_FAILED
    while True:
        what = {**who, **_what(model, service), "attempt": attempt}
        yield gateway, {**what, "kind": "REQUEST", "occurred_at": at_us}
        if rng.random() < SHARE_LOST:
            return
        answer = _failure(rng) if failed else _answer(rng, model)
        at_us += answer["latency_us"]
        response = {**what, **answer, "kind": "RESPONSE", "occurred_at": at_us}
        yield gateway, response
        if rng.random() < SHARE_REPEATED:
            yield gateway, response
        if not failed:
            return
        attempt, failed = attempt + 1, False


def _who(rng: random.Random, caller: Caller, at_us: int) -> dict[str, Any]:
    return {
        "request_id": f"{rng.getrandbits(128):032x}",
        "request_started_at": at_us,
        "trace_id": f"{rng.getrandbits(128):032x}",
        "tenant_id": caller.tenant_id,
        "app_id": caller.app_id,
        "workload_id": caller.workload_id,
        "credential_fingerprint": f"{random.Random(caller.workload_id).getrandbits(64):016x}",
        "end_user": f"user-{rng.randrange(caller.users):03d}",
        "identity_source": caller.identity,
        "workload_class": "realtime",
        "purpose": "workload",
        "gateway_cache": "none",
        "usage_revision": 0,
    }


def _what(model: Model, service: str) -> dict[str, Any]:
    return {
        "provider": model.provider,
        "model": model.name,
        "operation": "chat",
        "stream": True,
        "region": model.region,
        "route": f"/{service}",
    }


def _decision(rng: random.Random, caller: Caller) -> dict[str, Any]:
    return {
        "kind": "POLICY",
        "decision_id": f"{rng.getrandbits(96):024x}",
        "policy_id": rng.choice(caller.policies),
        "policy_version": "2026-10",
        "outcome": "allow" if rng.random() < 0.97 else "flag",
        "latency_us": int(rng.lognormvariate(8.3, 0.5)),
        "units": rng.randrange(200, 4_000),
    }


def _failure(rng: random.Random) -> dict[str, Any]:
    status, http_status = rng.choice(FAILURES)
    return {
        "status": status,
        "http_status": http_status,
        "delivered": False,
        "latency_us": rng.randrange(100_000, 900_000),
        "usage_source": "missing",
    }


def _answer(rng: random.Random, model: Model) -> dict[str, Any]:
    tokens_in, tokens_out = rng.randrange(50, 6_000), rng.randrange(10, 900)
    cached = rng.randrange(tokens_in // 2) if model.caches and rng.random() < 0.4 else 0
    reasoning = tokens_out // 3 if model.reasons else 0
    usage = {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    return {
        "served_model": model.name,
        "status": "ok",
        "http_status": 200,
        "delivered": True,
        "provider_request_id": f"chatcmpl-{rng.getrandbits(96):024x}",
        "finish_reason": "stop",
        "latency_us": 100_000 + int(rng.expovariate(1 / 650_000)),
        "ttft_us": rng.randrange(60_000, 100_000),
        "usage_source": "reported",
        "input_text_uncached": tokens_in - cached,
        "input_text_cache_read": cached if model.caches else None,
        "output_text_visible": tokens_out - reasoning,
        "output_text_reasoning": reasoning if model.reasons else None,
        "usage_raw": json.dumps(usage),
    }
