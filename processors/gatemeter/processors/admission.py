"""Which records of the log are authentic, and under which view: the MAC is verified before a byte is decoded.

Pure: records, metadata and secrets in, steps out; nothing of the fold's state changes, so a call that raises can be
made again. A refusal says why in one word (`reason`) and one sentence (`detail`).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from gatemeter.processors.fold.partition_state import Batch, Refused
from gatemeter.processors.fold.state import epoch_start_us
from gatemeter.processors.fold.types import HOUR_US, LogRecord, LoudStop, SecretMissing
from gatemeter.processors.metadata.log import MetadataLog
from gatemeter.processors.metadata.views import View
from gatemeter.schemas import codec, limits
from gatemeter.schemas.signing import (
    KID_HEADER,
    MAC_HEADER,
    TICK_GATEWAY,
    mac,
    signature_is_valid,
)

CONTROL_PREFIX: Final = codec.CURRENT["Control"].prefix
MAX_SEQUENCE: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Trust:
    """What a worker knows by its settings: gateway secrets by key id, operators' public keys (hex) by key id."""

    secrets: Mapping[str, bytes] = field(repr=False)
    operator_keys: Mapping[str, str]


class Authentic(NamedTuple):
    """A record that a registered gateway signed, not yet decoded."""

    record: LogRecord
    kid: str
    gateway_id: str
    gateway_kind: str


@dataclass(frozen=True, slots=True)
class Control:
    """A valid CONTROL. `view` is the one it puts in force, None where a later one already is."""

    record: LogRecord
    view: View | None


@dataclass(slots=True)
class Stretch:
    """Records between two CONTROLs, under one view."""

    view: View
    items: list[Authentic | Refused] = field(default_factory=list)


class Admission:
    """Sorts the records of one partition into stretches and CONTROLs."""

    def __init__(self, topic: str, partition: int, metadata: MetadataLog, trust: Trust) -> None:
        self._topic = topic
        self._partition = partition
        self._metadata = metadata
        self._trust = trust

    def steps(
        self, records: Sequence[LogRecord], view: View | None, refused: frozenset[int] | None = None
    ) -> list[Stretch | Control]:
        """The records in order. `refused`: offsets that were refused when they were first folded (replay).

        Raises `NeedsMetadata`, `SecretMissing`, `LoudStop`.
        """
        steps: list[Stretch | Control] = []
        for record in records:
            item: Authentic | Refused | Control
            if record.value[: codec.PREFIX_LENGTH] == CONTROL_PREFIX:
                item = self._control(record, view, refused)
                if isinstance(item, Control):
                    view = item.view or view
                    steps.append(item)
                    continue
            elif view is None:
                raise self._no_view(record)
            elif refused is not None:
                item = self._as_recorded(record, view, refused)
            else:
                item = self._gateway(record, view)
            if view is None:
                raise self._no_view(record)
            if not steps or not isinstance(steps[-1], Stretch):
                steps.append(Stretch(view))
            steps[-1].items.append(item)  # type: ignore[union-attr]
        return steps

    def _no_view(self, record: LogRecord) -> LoudStop:
        return LoudStop(
            f"{self._topic}[{self._partition}]: the log does not start with a CONTROL record (offset {record.offset});"
            " write one into every partition with: gatemeter topics apply"
        )

    def _control(self, record: LogRecord, view: View | None, refused: frozenset[int] | None) -> Control | Refused:
        if refused is not None and record.offset in refused:
            return Refused(record, "refused", "")
        if not signature_is_valid(self._trust.operator_keys, dict(record.headers), record.value):
            return Refused(record, "bad_signature", "a CONTROL must be signed by a known operator")
        try:
            control = codec.decode(record.value).datum
        except codec.CodecError as error:
            return Refused(record, error.reason, error.detail)
        if (control["topic"], control["partition"]) != (self._topic, self._partition):
            return Refused(record, "wrong_partition", f"signed for {control['topic']}[{control['partition']}]")
        if control["metadata_offset"] < 1:
            return Refused(record, "invalid", "metadata_offset must be 1 or more: a view has at least its parameters")
        if view is not None and control["metadata_offset"] <= view.offset:
            return Control(record, None)
        new = self._metadata.view(control["metadata_offset"])
        if new.digest != control["view_digest"]:
            raise LoudStop(
                f"{self._topic}[{self._partition}]@{record.offset}: the metadata below offset {new.offset} is not what"
                " the operator signed; restore the topic gatemeter.metadata from its backup"
            )
        return Control(record, new)

    @staticmethod
    def _as_recorded(record: LogRecord, view: View, refused: frozenset[int]) -> Authentic | Refused:
        if record.offset in refused:
            return Refused(record, "refused", "")
        kid = dict(record.headers)[KID_HEADER].decode()
        key = view.keys[kid]
        return Authentic(record, kid, key.gateway_id, key.gateway_kind)

    def _gateway(self, record: LogRecord, view: View) -> Authentic | Refused:
        headers = dict(record.headers)
        kid_bytes = headers.get(KID_HEADER)
        if kid_bytes is None:
            return Refused(record, "no_key_id", f"header {KID_HEADER} is missing")
        kid = kid_bytes.decode("utf-8", "replace")
        key = view.keys.get(kid)
        if key is None:
            return Refused(record, "unknown_key", f"key id {kid!r} is not registered")
        if record.timestamp_us < key.valid_from_us or (
            key.valid_to_us is not None and record.timestamp_us >= key.valid_to_us
        ):
            return Refused(record, "key_not_valid", f"key id {kid!r} is not valid at the record's timestamp")
        secret = self._trust.secrets.get(kid)
        if secret is None:
            raise SecretMissing(kid)
        if not hmac.compare_digest(mac(secret, record.value), headers.get(MAC_HEADER) or b""):
            return Refused(record, "bad_mac", f"header {MAC_HEADER} does not match the value under key id {kid!r}")
        return Authentic(record, kid, key.gateway_id, key.gateway_kind)


def decode(item: Authentic, topic: str, partition: int) -> Batch | Refused:
    """One record by fastavro; `topic` and `partition` are where it was found."""
    record = item.record
    try:
        decoded = codec.decode(record.value)
    except codec.CodecError as error:
        return Refused(record, error.reason, error.detail, item.gateway_id)
    if decoded.name != "GatewayBatch":
        return Refused(record, "wrong_schema", f"a gateway sends GatewayBatch, got {decoded.name}", item.gateway_id)
    envelope = decoded.datum
    events: list[dict[str, Any]] = envelope.pop("events")
    wrong = envelope_refusal(item, envelope, len(events), topic, partition) or _beyond_32_bits(events)
    if wrong is not None:
        return Refused(record, *wrong, item.gateway_id)
    return Batch(record, item.kid, envelope, events)


_INTS: Final = ("attempt", "usage_revision", "http_status")


def _beyond_32_bits(events: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """fastavro reads an Avro int of any size; by the specification it has 32 bits."""
    for event in events:
        for name in _INTS:
            if event[name] is not None and not -(1 << 31) <= event[name] < 1 << 31:
                return "undecodable", f"{name} must fit 32 bits, got {event[name]}"
    return None


def envelope_refusal(
    item: Authentic, envelope: Mapping[str, Any], events: int, topic: str, partition: int
) -> tuple[str, str] | None:
    """(reason, detail) where the envelope does not fit the key, the place or the ranges, else None."""
    if envelope["gateway_id"] != item.gateway_id:
        return "wrong_gateway", f"key id {item.kid!r} is not of gateway {envelope['gateway_id']!r}"
    if (envelope["topic"], envelope["partition"]) != (topic, partition):
        return "wrong_partition", f"signed for {envelope['topic']}[{envelope['partition']}]"
    if not 0 <= envelope["first_sequence"] <= MAX_SEQUENCE:
        return "invalid", f"first_sequence must be 0 to {MAX_SEQUENCE}, got {envelope['first_sequence']}"
    if events > limits.MAX_EVENTS_PER_BATCH:
        return "invalid", f"a batch must have at most {limits.MAX_EVENTS_PER_BATCH} events, got {events}"
    if events and item.gateway_id == TICK_GATEWAY:
        return "invalid", "a TICK must have no events"
    try:
        ahead_us = epoch_start_us(envelope["epoch"]) - item.record.timestamp_us
    except ValueError as error:
        return "invalid", f"epoch must be '<start_us>-<pid>-<16 hex>': {error}"
    if ahead_us > HOUR_US:
        return (
            "future",
            f"epoch starts {ahead_us // 1000} ms ahead of the log, at most {HOUR_US // 1000} ms are accepted",
        )
    return None
