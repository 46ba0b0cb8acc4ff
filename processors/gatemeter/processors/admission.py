"""Which records of the log are authentic, and under which view: the MAC is verified before a byte is decoded.

Pure: records, metadata and secrets in, steps out; nothing of the fold's state changes, so a call that raises can be
made again. A refusal says why in one word (`reason`) and one sentence (`detail`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from gatemeter.processors.fold.notices import record_digest
from gatemeter.processors.fold.partition_state import Batch, Refused
from gatemeter.processors.fold.state import epoch_start_us
from gatemeter.processors.fold.types import HOUR_US, LogRecord, LoudStop, SecretMissing
from gatemeter.processors.metadata.log import MetadataLog
from gatemeter.processors.metadata.views import GatewayKey, View
from gatemeter.schemas import codec, limits
from gatemeter.schemas.signing import (
    KID_HEADER,
    MAC_HEADER,
    TICK_GATEWAY,
    keyed_mac,
    mac,
    signature_is_valid,
)

OPERATOR_RECORDS: Final = {
    prefix: schema.name
    for prefix, schema in codec.BY_PREFIX.items()
    if schema.name in ("Control", "Discard", "Admit", "Commit")
}
_new = tuple.__new__
CORRECTION_CAUSES: Final = ("reprice", "manual", "reorganisation", "reconciliation")


@dataclass(frozen=True, slots=True)
class Trust:
    """What a worker knows by its settings: gateway secrets by key id, operators' public keys (hex) by key id."""

    secrets: Mapping[str, bytes] = field(repr=False)
    operator_keys: Mapping[str, str]


class _Sender(NamedTuple):
    """A registered key id, looked up once a call; `keyed` is the MAC's state after its key: a block less a record."""

    kid: str
    key: GatewayKey
    keyed: hashlib.blake2b | None


class Authentic(NamedTuple):
    """A record that a registered gateway signed, not yet decoded."""

    record: LogRecord
    kid: str
    gateway_id: str
    gateway_kind: str


@dataclass(frozen=True, slots=True)
class Operated:
    """A valid record of an operator: `name` is its kind, `datum` its content, `kid` who signed it.

    `view`: of a CONTROL the one that it puts in force, None where a later one already is.
    """

    record: LogRecord
    name: str
    datum: Mapping[str, Any]
    kid: str
    view: View | None = None


@dataclass(slots=True)
class Stretch:
    """Records between two of operators, under one view."""

    view: View
    items: list[Authentic | Refused] = field(default_factory=list)


Admits = frozenset[tuple[str, str]]
"""Open admits of operators: (digest of the record's value in hex, key id)."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """Records of a log in steps, and the admits that are open after them."""

    steps: list[Stretch | Operated]
    admits: Admits


class Admission:
    """Sorts the records of one partition into stretches and records of operators."""

    def __init__(self, topic: str, partition: int, metadata: MetadataLog, trust: Trust) -> None:
        self._topic = topic
        self._partition = partition
        self._metadata = metadata
        self._trust = trust

    def sort(
        self,
        records: Sequence[LogRecord],
        view: View | None,
        admits: Admits = frozenset(),
        refused: frozenset[int] | None = None,
    ) -> Sorted:
        """The records in order, under `view` and with `admits` open before the first of them.

        `refused`: offsets that were refused when they were first folded (replay). Raises `NeedsMetadata`,
        `SecretMissing`, `LoudStop`.
        """
        steps: list[Stretch | Operated] = []
        stretch: Stretch | None = None
        senders: dict[bytes, _Sender] = {}
        for record in records:
            item: Authentic | Refused | Operated
            name = OPERATOR_RECORDS.get(record.value[: codec.PREFIX_LENGTH])
            if name is not None:
                item = self._operated(record, name, view, refused)
                if isinstance(item, Operated):
                    view, stretch, senders = item.view or view, None, {}
                    if view is None:
                        raise self._no_view(record)
                    if name == "Admit":
                        admits |= {(item.datum["record_digest"].hex(), item.datum["kid"])}
                    steps.append(item)
                    continue
            elif view is None:
                raise self._no_view(record)
            else:
                admit = self._admit_for(record, view, admits) if admits else None
                if admit is not None:
                    admits -= {admit}
                if refused is not None:
                    item = self._as_recorded(record, view, refused)
                else:
                    item = self._gateway(record, view, senders, is_admitted=admit is not None)
            if view is None:
                raise self._no_view(record)
            if stretch is None:
                stretch = Stretch(view)
                steps.append(stretch)
            stretch.items.append(item)
        return Sorted(steps, admits)

    def _no_view(self, record: LogRecord) -> LoudStop:
        return LoudStop(
            f"{self._topic}[{self._partition}]: the log does not start with a CONTROL record (offset {record.offset});"
            " write one into every partition with: gatemeter topics apply"
        )

    def _operated(
        self, record: LogRecord, name: str, view: View | None, refused: frozenset[int] | None
    ) -> Operated | Refused:
        if refused is not None and record.offset in refused:
            return Refused(record, "refused", "")
        headers = dict(record.headers)
        if not signature_is_valid(self._trust.operator_keys, headers, record.value):
            return Refused(record, "bad_signature", f"a {name.upper()} must be signed by a known operator")
        try:
            datum = codec.decode(record.value).datum
        except codec.CodecError as error:
            return Refused(record, error.reason, error.detail)
        if (datum["topic"], datum["partition"]) != (self._topic, self._partition):
            return Refused(record, "wrong_partition", f"signed for {datum['topic']}[{datum['partition']}]")
        wrong = _CHECKS[name](datum, record)
        if wrong:
            return Refused(record, "invalid", wrong)
        kid = headers[KID_HEADER].decode("utf-8", "replace")
        new = self._new_view(record, datum, view) if name == "Control" else None
        return Operated(record, name, datum, kid, new)

    def _new_view(self, record: LogRecord, control: Mapping[str, Any], view: View | None) -> View | None:
        """The view that a CONTROL puts in force, None where it or a later one already is."""
        if view is not None and control["metadata_offset"] <= view.offset:
            return None
        new = self._metadata.view(control["metadata_offset"])
        if new.digest != control["view_digest"]:
            raise LoudStop(
                f"{self._topic}[{self._partition}]@{record.offset}: the metadata below offset {new.offset} is not what"
                " the operator signed; restore the topic gatemeter.metadata from its backup"
            )
        return new

    def _admit_for(self, record: LogRecord, view: View, admits: Admits) -> tuple[str, str] | None:
        """The open admit that this record uses up: of its bytes and key id, where its MAC is right."""
        headers = dict(record.headers)
        kid_bytes = headers.get(KID_HEADER)
        if kid_bytes is None:
            return None
        kid = kid_bytes.decode("utf-8", "replace")
        if kid not in view.keys or not any(kid == admitted for _, admitted in admits):
            return None
        admit = (record_digest(record.value), kid)
        if admit not in admits:
            return None
        secret = self._trust.secrets.get(kid)
        if secret is None:
            raise SecretMissing(kid)
        return admit if hmac.compare_digest(mac(secret, record.value), headers.get(MAC_HEADER) or b"") else None

    @staticmethod
    def _as_recorded(record: LogRecord, view: View, refused: frozenset[int]) -> Authentic | Refused:
        if record.offset in refused:
            return Refused(record, "refused", "")
        kid = dict(record.headers)[KID_HEADER].decode()
        key = view.keys[kid]
        return Authentic(record, kid, key.gateway_id, key.gateway_kind)

    def _gateway(
        self, record: LogRecord, view: View, senders: dict[bytes, _Sender], *, is_admitted: bool
    ) -> Authentic | Refused:
        headers = dict(record.headers)
        kid_bytes = headers.get(KID_HEADER)
        if kid_bytes is None:
            return Refused(record, "no_key_id", f"header {KID_HEADER} is missing")
        sender = senders.get(kid_bytes)
        if sender is None:
            kid = kid_bytes.decode("utf-8", "replace")
            registered = view.keys.get(kid)
            if registered is None:
                return Refused(record, "unknown_key", f"key id {kid!r} is not registered")
            secret = self._trust.secrets.get(kid)
            sender = senders[kid_bytes] = _Sender(kid, registered, None if secret is None else keyed_mac(secret))
        kid, key, keyed = sender
        if not is_admitted and not key.valid_at(record.timestamp_us):
            return Refused(record, "key_not_valid", f"key id {kid!r} is not valid at the record's timestamp")
        if keyed is None:
            raise SecretMissing(kid)
        digest = keyed.copy()
        digest.update(record.value)
        if not hmac.compare_digest(digest.digest(), headers.get(MAC_HEADER) or b""):
            return Refused(record, "bad_mac", f"header {MAC_HEADER} does not match the value under key id {kid!r}")
        return _new(Authentic, (record, kid, key.gateway_id, key.gateway_kind))


def _control_problem(datum: Mapping[str, Any], record: LogRecord) -> str:
    if datum["metadata_offset"] < 1:
        return "metadata_offset must be 1 or more: a view has at least its parameters"
    return ""


def _discard_problem(datum: Mapping[str, Any], record: LogRecord) -> str:
    first, after = datum["first_sequence"], datum["next_sequence"]
    if not 0 <= datum["offset"] < record.offset:
        return f"offset must be 0 to {record.offset - 1}, before the discard, got {datum['offset']}"
    if not -1 <= datum["event_index"] < limits.MAX_EVENTS_PER_BATCH:
        return f"event_index must be -1 to {limits.MAX_EVENTS_PER_BATCH - 1}, got {datum['event_index']}"
    if not 0 <= first <= limits.MAX_SEQUENCE or not 0 <= after - first <= limits.MAX_EVENTS_PER_BATCH:
        return f"first_sequence and next_sequence must be a range of one batch, got [{first}, {after})"
    if after == first:
        return _reason_problem(datum)
    try:
        ahead_us = epoch_start_us(datum["epoch"]) - record.timestamp_us
    except ValueError as error:
        return f"epoch must be '<start_us>-<pid>-<16 hex>': {error}"
    if ahead_us > HOUR_US:
        return f"epoch starts {ahead_us // 1000} ms ahead of the log, at most {HOUR_US // 1000} ms are accepted"
    return _reason_problem(datum)


def _admit_problem(datum: Mapping[str, Any], record: LogRecord) -> str:
    return _reason_problem(datum)


def _commit_problem(datum: Mapping[str, Any], record: LogRecord) -> str:
    if datum["partition"] != 0:
        return f"a COMMIT belongs into partition 0, got partition {datum['partition']}"
    if not 0 < len(datum["run_id"]) <= 128:
        return f"run_id must be 1 to 128 characters, got {len(datum['run_id'])}"
    if datum["entries"] < 0:
        return f"entries must be 0 or more, got {datum['entries']}"
    if datum["cause"] not in CORRECTION_CAUSES:
        return f"cause must be one of {', '.join(CORRECTION_CAUSES)}, got {datum['cause']!r}"
    return _reason_problem(datum)


def _reason_problem(datum: Mapping[str, Any]) -> str:
    return "" if datum["reason"].strip() else "reason must not be empty"


_CHECKS: Final[dict[str, Callable[[Mapping[str, Any], LogRecord], str]]] = {
    "Control": _control_problem,
    "Discard": _discard_problem,
    "Admit": _admit_problem,
    "Commit": _commit_problem,
}


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
    if not 0 <= envelope["first_sequence"] <= limits.MAX_SEQUENCE:
        return "invalid", f"first_sequence must be 0 to {limits.MAX_SEQUENCE}, got {envelope['first_sequence']}"
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
