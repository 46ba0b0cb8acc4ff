"""Hypothesis strategies for partition logs with everything that a log may hold, good and bad.

A program is a list of small steps; `build_log` turns it into records. Steps shrink well and are cheap: none depends on
what the fold does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from gatemeter.processors.fold.types import LogRecord
from gatemeter.processors.metadata.views import LatencyThresholds, View
from gatemeter.schemas import codec
from gatemeter.schemas.signing import OperatorKey
from support.logs import PRICES, START_US, Gateway, Log, build, policy, request, response, standard_view

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

ENVELOPE_BYTES = 66
"""At least so many bytes come before a batch's events."""

STEPS_US = (
    *(0, 1, SECOND, 30 * SECOND, MINUTE - 1, MINUTE, MINUTE + 1, 2 * MINUTE, 2 * MINUTE + 1, 9 * MINUTE),
    *(10 * MINUTE - 1, 10 * MINUTE, 10 * MINUTE + 1, 15 * MINUTE, 15 * MINUTE + 1, 40 * MINUTE, 3 * HOUR),
)
"""How far log time moves between two records: around every timer of the views."""
SKEWS_US = (
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    -SECOND,
    -MINUTE,
    -9 * MINUTE,
    -40 * MINUTE,
    4 * MINUTE,
    5 * MINUTE,
    6 * MINUTE,
    70 * MINUTE,
)
"""`occurred_at` against the record's timestamp."""
AGES_US = (0, 0, 0, 0, 0, 0, SECOND, MINUTE, 20 * MINUTE, 2 * HOUR, 36 * DAY, -SECOND)
"""`occurred_at` against `request_started_at`."""


STRANGER = OperatorKey.generate("stranger")


def examples(count: int) -> settings:
    """`count` examples in the suite, in proportion in a soak run (support/depth.py)."""
    return settings(max_examples=count * max(settings().max_examples // 100, 1), deadline=None)


def views() -> dict[int, View]:
    """The standard one; short timers; long timers, other prices, credentials; a key that ends; another plan and apps,
    all kinds of identities; a gateway that corroborates; authorities with dates, of any route and of one."""
    cheap = {name: price // 2 + 1 for name, price in PRICES.items()}
    tiers = {**PRICES, "output_text_reasoning": 7, "request": 11, "images": 13, "searches": 3}
    return {
        1: build(standard_view(), 1),
        2: build(
            standard_view(horizon_us=2 * MINUTE, orphan_timer_us=MINUTE, grace_us=0, future_bound_us=0).authority(
                "gw-a", "gw-b", route="/v1"
            ),
            2,
        ),
        3: build(
            standard_view(
                horizon_us=30 * MINUTE,
                orphan_timer_us=30 * MINUTE,
                grace_us=2 * HOUR,
                future_bound_us=HOUR,
                latency=LatencyThresholds(2, 10, 1_000_000, 2_000_000),
            )
            .rate("openai", "gpt", cheap, card_id="newer", from_us=START_US + 30 * MINUTE, list_prices=PRICES)
            .rate("openai", "gpt", tiers, card_id="newer", service_tier="flex", above=100)
            .rate("openai", "gpt", cheap, card_id="newer", service_tier="flex")
            .rate("openai", "gpt", tiers, card_id="newer", region="eu", from_us=START_US + 20 * MINUTE)
            .rate("openai", "gpt", cheap, card_id="newer", region="us", workload_class="batch")
            .policy("pii", 5, 0, pico_per_scanned_token=3, billed_by="bedrock", from_us=START_US + 30 * MINUTE)
            .plan("standard", from_us=START_US + 45 * MINUTE, markup_ppm=1, cache_price_ppm=333_333)
            .authority("gw-b", "gw-a", from_us=START_US + 2 * MINUTE)
            .identity("credential", "key-a", app_id="chat", offboarded_at_us=START_US + 30 * MINUTE)
            .identity("credential", "key-a", "globex", from_us=START_US + 60 * MINUTE)
            .identity("credential", "key-g", "globex", expires_at_us=START_US + 10 * MINUTE),
            3,
        ),
        4: build(
            standard_view()
            .gateway("gw-a", "a-1", valid_to_us=START_US + 90 * MINUTE)
            .gateway("gw-b", "b-1", role="corroborating"),
            4,
        ),
        5: build(
            standard_view(orphan_timer_us=15 * MINUTE)
            .tenant("acme", plan_id="claims", apps=["chat"])
            .plan("claims", markup_ppm=7, cache_price_ppm=1_000_000, retry_cost_centre="cc-9", from_us=1)
            .identity("app", "other", issued_at_us=START_US + MINUTE)
            .identity("workload", "w-1", expires_at_us=START_US + 20 * MINUTE)
            .identity("credential", "key-g", "globex", workload_id="w-2"),
            5,
        ),
        6: build(standard_view().gateway("gw-b", "b-1", role="corroborating").authority("gw-b", "gw-a"), 6),
        7: build(
            standard_view()
            .authority("gw-a", "gw-b", route="/v1", from_us=START_US + 20 * MINUTE, to_us=START_US + 2 * HOUR)
            .authority("gw-b", "gw-a", from_us=START_US + MINUTE)
            .authority("gw-b", "gw-b", route="/v1"),
            7,
        ),
    }


@dataclass(frozen=True)
class Event:
    """One event; `repeat` ≥ 0 sends an earlier one of the gateway again, under a new sequence."""

    kind: str = "REQUEST"
    request: int = 0
    attempt: int = 1
    revision: int = 0
    tokens: tuple[int, int] | None = (100, 20)
    skew: int = 0
    age: int = 0
    own_start: bool = False
    fields: tuple[tuple[str, Any], ...] = ()
    repeat: int = -1


@dataclass(frozen=True)
class Send:
    gateway: int
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Resend:
    """Some sequences of a gateway once more, cut otherwise."""

    gateway: int
    first: int
    count: int


@dataclass(frozen=True)
class Again:
    """A whole record once more."""

    record: int


@dataclass(frozen=True)
class Control:
    view: int


@dataclass(frozen=True)
class Bad:
    """A damaged copy of an earlier record."""

    how: str
    record: int
    at: int


@dataclass(frozen=True)
class Jump:
    """Log time moves on, also backwards in timestamps."""

    by_us: int


@dataclass(frozen=True)
class Operate:
    """A record of an operator about an earlier record, and after an admit that record once more."""

    how: str
    record: int
    at: int


Step = Send | Resend | Again | Control | Bad | Jump | Operate

_FIELDS: tuple[tuple[tuple[str, Any], ...], ...] = (
    (),
    (),
    (),
    (("tenant_id", "globex"), ("identity_source", "header_claim")),
    (("tenant_id", "nobody"),),
    (("tenant_id", None), ("app_id", None), ("workload_id", None)),
    (("identity_source", "header_claim"),),
    (("credential_fingerprint", "key-a"),),
    (("credential_fingerprint", "key-g"), ("workload_id", None), ("identity_source", "mtls")),
    (("tenant_id", None), ("app_id", None), ("credential_fingerprint", "key-a")),
    (("tenant_id", None), ("credential_fingerprint", "key-g"), ("workload_id", "w-9")),
    (("tenant_id", None), ("identity_source", "header_claim")),
    (("identity_source", "mtls"), ("app_id", "other")),
    (("model", "unknown"),),
    (("served_model", "gpt"), ("model", "alias")),
    (("service_tier", "flex"), ("workload_class", "batch")),
    (("workload_class", "batch"),),
    (
        ("workload_class", "batch"),
        ("status", "in_progress"),
        ("input_text_uncached", None),
        ("output_text_visible", None),
    ),
    (("gateway_cache", "exact"),),
    (("gateway_cache", "exact"), ("model", "unknown")),
    (("gateway_cache", "semantic"), ("input_image_uncached", 4), ("searches", 0)),
    (("region", "eu"),),
    (("region", "us"), ("workload_class", "batch")),
    (("gateway_cache", "semantic"), ("usage_source", None)),
    (("purpose", "policy_evaluation"),),
    (("status", "error"), ("delivered", False), ("http_status", 500), ("latency_us", None)),
    (("output_text_reasoning", 3), ("searches", 2), ("images", 1), ("usage_source", "estimated")),
    (("input_text_cache_read", 5), ("latency_us", 30_000_000), ("usage_raw", '{"é": "\x1f"}')),
    (("searches", 1),),
    (("route", "/v1"), ("trace_id", "t-1"), ("provider_request_id", "p-1")),
    (("route", "/v1"),),
    (("route", "/v2"), ("stream", True)),
    (("usage_consistency", "mismatch"), ("usage_mismatches", "usage.total: must be 1\nusage.b: must be 2")),
    (("usage_consistency", "mismatch"), ("model", "unknown")),
    (("uncounted_prompt", "a prompt"), ("uncounted_completion", "and its answer"), ("usage_source", "missing")),
    (("uncounted_completion", "é" * 9), ("output_text_visible", None), ("usage_source", "missing"), ("model", "gpt-4")),
    (("uncounted_prompt", ""), ("input_text_uncached", None), ("usage_source", None), ("status", "cancelled")),
    (("outcome", "deny"), ("units", None)),
    (("outcome", "deny"),),
    (("outcome", "flag"), ("scanned_tokens", 1_234)),
    (("outcome", "flag"), ("scanned_tokens", 0), ("units", None)),
    (("outcome", "redact"), ("evaluator_request_id", "r1"), ("policy_id", "other")),
    (("outcome", "deny"), ("subject_gateway_id", "gw-b")),
    # refused ones
    (("request_id", ""),),
    (("request_id", "é" * 257),),
    (("attempt", 0),),
    (("attempt", 70_000),),
    (("usage_revision", 128),),
    (("latency_us", -1), ("http_status", -5)),
    (("status", None), ("outcome", None)),
    (("status", "in_progress"),),
    (("tool_calls", 10_001), ("units", -3)),
    (("tool_calls", -1), ("scanned_tokens", 50_000_001)),
    (("decision_id", ""),),
)
_ACCEPTABLE = _FIELDS.index((("request_id", ""),))


def _fields(roll: int) -> tuple[tuple[str, Any], ...]:
    """The acceptable ones, which come first, three times as often as the refused."""
    return _FIELDS[roll] if roll < len(_FIELDS) else _FIELDS[(roll - len(_FIELDS)) % _ACCEPTABLE]


def events() -> st.SearchStrategy[Event]:
    return st.builds(
        Event,
        kind=st.sampled_from(("REQUEST", "REQUEST", "RESPONSE", "RESPONSE", "RESPONSE", "POLICY")),
        request=st.integers(0, 4),
        attempt=st.sampled_from((1, 1, 1, 2)),
        revision=st.sampled_from((0, 0, 0, 0, 1, 2)),
        tokens=st.sampled_from(((100, 20), (100, 20), (101, 7), (0, 0), None, (-1, 0), (40_000_000, 20_000_000))),
        skew=st.sampled_from(SKEWS_US),
        age=st.sampled_from(AGES_US),
        own_start=st.integers(0, 7).map(lambda roll: roll == 0),
        fields=st.integers(0, len(_FIELDS) + 2 * _ACCEPTABLE).map(_fields),
        repeat=st.sampled_from((-1, -1, -1, -1, 0, 1, 5)),
    )


BAD = (
    *("garbage", "cut", "appended", "second_body", "tampered", "mutated", "no_kid", "unknown_kid", "wrong_partition"),
    *("other_gateway", "bad_epoch", "future_epoch", "old_epoch", "unsigned_control", "many_blocks", "huge_sequence"),
    *("attested", "attested", "attested_garbage", "attested_elsewhere", "attested_ahead"),
)


OPERATED = ("discard", "discard", "discard_unread", "admit", "admit_and_replay", "commit", "forged", "misplaced")


def steps() -> st.SearchStrategy[Step]:
    jumps = (*STEPS_US[:8], *STEPS_US[:8], *STEPS_US[:10], *STEPS_US, -MINUTE, 31 * DAY)
    return st.one_of(
        *[st.builds(Send, st.integers(0, 4), st.lists(events(), max_size=6).map(tuple))] * 7,
        st.builds(Resend, st.integers(0, 4), st.integers(0, 12), st.integers(1, 8)),
        st.builds(Again, st.integers(0, 30)),
        st.builds(Control, st.sampled_from((1, 2, 3, 4, 5, 6, 7, 6, 7))),
        st.builds(Bad, st.sampled_from(BAD), st.integers(0, 30), st.integers(0, 400)),
        st.builds(Operate, st.sampled_from(OPERATED), st.integers(0, 30), st.integers(0, 60)),
        *[st.builds(Jump, st.sampled_from(jumps))] * 4,
    )


def programs(max_size: int = 40, min_size: int = 1) -> st.SearchStrategy[list[Step]]:
    return st.lists(steps(), min_size=min_size, max_size=max_size)


@dataclass
class Sender:
    """A gateway run and all it ever sent."""

    gateway: Gateway
    bodies: list[bytes] = field(default_factory=list)


class Builder:
    """Interprets steps one by one, so that a state machine may too."""

    def __init__(self) -> None:
        self.log = Log()
        self.views = views()
        self.now_us = 0
        self.log.control(self.views[1])
        self.senders = [
            Sender(Gateway(self.log)),
            Sender(Gateway(self.log, "gw-b", "b-1")),
            Sender(Gateway(self.log, run=2)),
            Sender(Gateway(self.log, "_tick", "tick-1")),
            Sender(Gateway(self.log, "gw-a", "a-1", run=3, kind="telemetry")),
        ]
        self.starts: dict[tuple[int, int], int] = {}

    def step(self, step: Step) -> None:
        if isinstance(step, Send):
            self._send(self.senders[step.gateway], step.events)
        elif isinstance(step, Resend):
            self._resend(self.senders[step.gateway], step.first, step.count)
        elif isinstance(step, Again):
            self.log.again(self._record(step.record), self.now_us)
        elif isinstance(step, Control):
            self.log.control(self.views[step.view], self.now_us)
        elif isinstance(step, Bad):
            self._bad(step)
        elif isinstance(step, Operate):
            self._operate(step)
        else:
            self._jump(step.by_us)

    def _jump(self, by_us: int) -> None:
        """After a month two gateways have started anew; the epochs of the others have expired."""
        self.now_us += by_us
        if by_us > DAY:
            for number in (0, 1):
                old = self.senders[number].gateway
                run = int(old.epoch.split("-")[1]) + 10
                fresh = Gateway(self.log, old.gateway_id, old.kid, run=run, start_us=self.now_us)
                self.senders[number] = Sender(fresh)
            self.starts.clear()

    def _record(self, number: int) -> LogRecord:
        return self.log.records[-1 - number % len(self.log.records)]

    def _send(self, sender: Sender, wanted: Sequence[Event]) -> None:
        if sender.gateway.gateway_id == "_tick":
            wanted = ()
        bodies = [self._body(sender, each) for each in wanted]
        sender.bodies += bodies
        first = sender.gateway.sequence
        sender.gateway.sequence += len(bodies)
        self._append(sender.gateway, bodies, first)

    def _append(self, gateway: Gateway, bodies: Sequence[bytes], first: int) -> None:
        value = gateway.value(bodies, first, self.now_us)
        self.log.append(value, gateway.headers(value), self.now_us, b"k")

    def _body(self, sender: Sender, wanted: Event) -> bytes:
        if 0 <= wanted.repeat < len(sender.bodies):
            return sender.bodies[-1 - wanted.repeat]
        occurred = self.now_us + wanted.skew
        started = occurred - wanted.age
        if not wanted.own_start:
            started = self.starts.setdefault((wanted.request, wanted.attempt), started)
            occurred = max(occurred, started) if wanted.age >= 0 else occurred
        fields = dict(wanted.fields)
        fields.setdefault("attempt", wanted.attempt)
        name = f"r{wanted.request}"
        if wanted.kind == "REQUEST":
            made = request(name, occurred, started_us=started)
        elif wanted.kind == "RESPONSE":
            fields.setdefault("usage_revision", wanted.revision)
            made = response(name, occurred, tokens=wanted.tokens, started_us=started)
        else:
            outcome = "deny" if wanted.request % 2 else "allow"  # often, so that waiting requests are denied too
            decision = f"d{wanted.request}{wanted.attempt}"
            made = policy(name, occurred, decision, started_us=started, outcome=outcome)
        return codec.encode_event({**made, **fields})

    def _resend(self, sender: Sender, first: int, count: int) -> None:
        known = len(sender.bodies)
        if known:
            first %= known
            self._append(sender.gateway, sender.bodies[first : first + count], first)

    def _operate(self, step: Operate) -> None:
        record, gateway = self._record(step.record), self.senders[step.at % 3].gateway
        if step.how == "discard":
            first = step.at % (gateway.sequence + 2)
            self.log.discard(record, step.at % 4 - 1, gateway, (first, first + step.at % 5), self.now_us)
        elif step.how == "discard_unread":
            blank = {"gateway_id": "", "epoch": "", "first_sequence": 0, "next_sequence": 0}
            self.log.operate("Discard", self.now_us, offset=record.offset, event_index=-1, **blank)
        elif step.how.startswith("admit"):
            kid = dict(record.headers).get("gm-kid", b"a-1").decode()
            self.log.admit(record, kid, self.now_us)
            if step.how == "admit_and_replay":
                self.log.again(record, self.now_us)
        elif step.how == "forged":
            run = {"run_id": "run-0", "rows_digest": bytes(32), "entries": 1, "cause": "reprice"}
            self.log.operate("Commit", self.now_us, STRANGER, **run)
        elif step.how == "misplaced":
            self.log.operate("Admit", self.now_us, record_digest=bytes(32), kid="a-1", partition=7)
        else:
            self.log.commit(f"run-{step.at % 3}", self.now_us)

    def _bad(self, step: Bad) -> None:
        gateway = self.senders[step.at % 3].gateway
        value = damaged(step.how, self._record(step.record).value, step.at, self.senders[step.at % 3], self.now_us)
        headers = gateway.headers(value)
        if step.how in ("tampered", "unsigned_control"):
            headers = [headers[0], (headers[1][0], bytes(32))]
        elif step.how == "no_kid":
            headers = headers[1:]
        elif step.how == "unknown_kid":
            headers[0] = (headers[0][0], b"z-9")
        elif step.how == "other_gateway":
            headers = self.senders[(step.at + 1) % 3].gateway.headers(value)
        self.log.append(value, headers, self.now_us, b"bad")


def damaged(how: str, value: bytes, at: int, sender: Sender, now_us: int) -> bytes:
    """A value that a gateway with a key might send, in any state of disrepair."""
    gateway = sender.gateway
    bodies = sender.bodies[-3:]
    first = gateway.sequence
    place = at % max(len(value), 1)
    if how == "garbage":
        return bytes((at * 7 + i) % 256 for i in range(at % 60))
    if how == "cut":
        return value[:place]
    if how == "appended":
        return value + bytes([at % 256])
    if how == "second_body":
        return value + value[codec.PREFIX_LENGTH :]
    if how == "mutated" and len(value) > codec.PREFIX_LENGTH + ENVELOPE_BYTES:
        place = codec.PREFIX_LENGTH + at % ENVELOPE_BYTES  # see docs/fold.md, "Where the decoders differ"
        return value[:place] + bytes([value[place] ^ (1 << at % 8)]) + value[place + 1 :]
    if how == "wrong_partition":
        return gateway.value(bodies, first, now_us, partition=7)
    if how == "bad_epoch":
        return gateway.value(bodies, first, now_us, epoch="yesterday")
    if how == "future_epoch":
        return gateway.value(bodies, first, now_us, epoch=f"{START_US + now_us + 2 * HOUR}-1-{1:016x}")
    if how == "old_epoch":
        return gateway.value(bodies, 0, now_us, epoch=f"{START_US - 40 * DAY}-1-{1:016x}")
    if how == "unsigned_control":
        return codec.CURRENT["Control"].prefix + b"\x00"
    if how == "many_blocks":
        return many_blocks(gateway, bodies, first + 1000 + at, now_us)
    if how.startswith("attested"):
        return gateway.value(bodies, first, now_us, attestation=attested(how, gateway, first, at))
    if how == "huge_sequence":
        return gateway.value(bodies, (1 << 62) + 1, now_us)
    return gateway.value(bodies, first, now_us)


def attested(how: str, gateway: Gateway, first: int, at: int) -> bytes:
    """What a batch may carry as its attestation."""
    if how == "attested_garbage":
        return gateway.attestation(0, first)[: at % 300]
    if how == "attested_elsewhere":
        return gateway.attestation(0, first, partition=7)
    return gateway.attestation(0, first + (1 << 40) if how == "attested_ahead" else first)


def many_blocks(gateway: Gateway, bodies: Sequence[bytes], first: int, now_us: int) -> bytes:
    """A batch whose array of events has a block an event, one of them with its size announced; Avro allows it."""
    blocks = []
    for number, body in enumerate(bodies):
        if number % 2:
            size = len(body) << 1
            varint = bytearray()
            while size > 0x7F:
                varint.append(size & 0x7F | 0x80)
                size >>= 7
            varint.append(size)
            blocks.append(b"\x01" + bytes(varint) + body)
        else:
            blocks.append(b"\x02" + body)
    empty = gateway.value([], first, now_us)
    return empty[:-1] + b"".join(blocks) + b"\x00"


def build_log(program: Sequence[Step]) -> tuple[Log, dict[int, View]]:
    """The log that a program writes, and the views that its CONTROLs name."""
    builder = Builder()
    for step in program:
        builder.step(step)
    return builder.log, builder.views
