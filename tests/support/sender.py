"""Appends raw records to a system's log, well signed unless told otherwise: what no honest emitter would send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from confluent_kafka import Producer

from gatemeter.producers import new_request_id, now_us
from gatemeter.schemas import codec, signing
from support.spine import Spine


class Sender:
    """One run of a gateway; by default the spine's own."""

    def __init__(
        self, spine: Spine, gateway_id: str = "litellm", kid: str | None = None, *, secret: bytes | None = None
    ) -> None:
        self.gateway_id, self.kid = gateway_id, kid or spine.kid
        self._spine = spine
        self._secret = secret or signing.load_secrets(spine.folder / "secrets.json")[self.kid]
        self._producer = Producer({"bootstrap.servers": spine.kafka.bootstrap, "acks": "all"})
        self.epoch = f"{now_us()}-1-{int.from_bytes(signing.new_secret()[:8], 'big'):016x}"
        self._sequence = 0

    def batch(self, *events: dict[str, Any], **envelope: Any) -> bytes:
        """A value with the next sequences; `envelope` replaces its fields."""
        base = {
            "gateway_id": self.gateway_id,
            "gateway_kind": "inference_proxy",
            "epoch": self.epoch,
            "topic": self._spine.topic,
            "partition": 0,
            "first_sequence": self._sequence,
            "sent_at": now_us(),
            "counters": {"emitted": 0, "spooled": 0, "dropped": 0},
            "closed": False,
        }
        self._sequence += len(events)
        return codec.encode_batch({**base, **envelope}, [codec.encode_event(event) for event in events])

    def signed(self, value: bytes, *, kid: str | None = None, mac: bytes | None = None) -> list[tuple[str, bytes]]:
        """The headers of a value."""
        return [
            (signing.KID_HEADER, (kid or self.kid).encode()),
            (signing.MAC_HEADER, signing.mac(self._secret, value) if mac is None else mac),
        ]

    def send(self, value: bytes, *, kid: str | None = None, mac: bytes | None = None, headers: bool = True) -> None:
        """Appends a value to partition 0."""
        self.append(value, self.signed(value, kid=kid, mac=mac) if headers else [])

    def append(self, value: bytes, headers: Sequence[tuple[str, bytes]], partition: int = 0) -> None:
        """Appends any bytes with any headers."""
        self._producer.produce(self._spine.topic, value, b"k", partition, headers=[*headers])

    def flush(self) -> None:
        """Returns when all is in the log."""
        assert self._producer.flush(30) == 0


def response(**fields: Any) -> dict[str, Any]:
    """A RESPONSE of now."""
    now = now_us()
    base = {
        "kind": "RESPONSE",
        "request_id": new_request_id(),
        "attempt": 1,
        "request_started_at": now,
        "occurred_at": now,
        "identity_source": "mtls",
        "workload_class": "realtime",
        "purpose": "workload",
        "gateway_cache": "none",
        "usage_revision": 0,
        "status": "ok",
        "input_text_uncached": 10,
    }
    return {**base, **fields}
