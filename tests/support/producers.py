"""Emitters for tests: a way to Kafka that keeps records in a list, and what a batch holds."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatemeter.producers import EmitterSettings, RequestEvent, ResponseEvent, new_request_id, now_us
from gatemeter.producers.transport import Outcome
from gatemeter.schemas import codec, signing

SECRET = b"k" * 32


@dataclass(frozen=True)
class Sent:
    """A record as it reached the fake, or Kafka."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: dict[str, bytes]

    @property
    def batch(self) -> dict[str, Any]:
        """The decoded batch; the signature is verified."""
        assert signing.mac_is_valid(SECRET, self.value, self.headers["gm-mac"])
        return codec.decode(self.value).datum


class FakeTransport:
    """Delivers at once while `up`. `refuse`: outcomes to answer with first."""

    def __init__(self, partitions: int = 4) -> None:
        self.count: int | None = partitions
        self.up = True
        self.sent: list[Sent] = []
        self.refuse: list[Outcome] = []
        self.largest = 1 << 30
        self._waiting: list[tuple[Sent, Callable[[Outcome], None]]] = []
        self._lock = threading.Lock()

    def __call__(self) -> FakeTransport:
        return self

    def partitions(self, topic: str) -> int | None:
        return self.count if self.up else None

    def send(
        self,
        topic: str,
        partition: int,
        *,
        key: bytes,
        value: bytes,
        headers: list[tuple[str, bytes]],
        done: Callable[[Outcome], None],
    ) -> None:
        self._waiting.append((Sent(topic, partition, key, value, dict(headers)), done))

    def poll(self, seconds: float) -> None:
        if not self.up or not self._waiting:
            time.sleep(min(seconds, 0.005))
            return
        waiting, self._waiting = self._waiting, []
        for sent, done in waiting:
            if len(sent.value) > self.largest:
                done(Outcome.TOO_LARGE)
            elif self.refuse:
                done(self.refuse.pop())
            else:
                self.sent.append(sent)
                done(Outcome.DELIVERED)

    def close(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            done(Outcome.FAILED)


def settings(folder: Path | None, **changed: Any) -> EmitterSettings:
    """Of a gateway `gw` with short times; mode memory where there is no folder."""
    values: dict[str, Any] = {
        "bootstrap": "127.0.0.1:1",
        "gateway_id": "gw",
        "gateway_kind": "inference_proxy",
        "kid": "gw-1",
        "secret": SECRET,
        "spool_folder": folder,
        "spool_mode": "memory" if folder is None else "process",
        "linger_ms": 20,
        **changed,
    }
    return EmitterSettings(**values)


def request(**changed: Any) -> RequestEvent:
    """A valid REQUEST."""
    return RequestEvent(**{"request_id": new_request_id(), "request_started_at": now_us(), **changed})


def response(**changed: Any) -> ResponseEvent:
    """A valid RESPONSE."""
    started = now_us()
    return ResponseEvent(
        **{
            "request_id": new_request_id(),
            "request_started_at": started,
            "status": "ok",
            "tenant_id": "acme",
            **changed,
        }
    )


def sequences(records: list[Sent], epoch: str | None = None) -> dict[tuple[str, int], list[int]]:
    """By epoch and partition, the sequences of all events, sorted, copies included."""
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    for record in records:
        batch = record.batch
        if epoch in (None, batch["epoch"]):
            first = batch["first_sequence"]
            found[batch["epoch"], record.partition] += range(first, first + len(batch["events"]))
    return {key: sorted(numbers) for key, numbers in found.items() if numbers}


def request_ids(records: list[Sent]) -> list[str]:
    """Of all events, copies included."""
    return [event["request_id"] for record in records for event in record.batch["events"]]


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Returns when `condition` holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
