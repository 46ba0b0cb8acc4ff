"""Partition logs for tests: gateways that send, a log that takes, folds that read it, and rows to compare.

`Gateway` numbers and signs events as an emitter does; `Log` is one partition; `fold_log` folds it in chosen cuts and
`collapse` keeps what ClickHouse keeps of the rows: the greatest version or revision of each key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa

from gatemeter.processors.fold.types import LogRecord
from gatemeter.processors.metadata.log import NeedsMetadata, Published
from gatemeter.processors.metadata.views import View
from gatemeter.processors.partition import Output, PartitionFold, Trust
from gatemeter.schemas import codec, signing
from gatemeter.schemas.tables import TABLES
from support.views import ViewBuilder

START_US = 1_780_000_000_000_000 - 1_780_000_000_000_000 % 3_600_000_000
"""An hour's start in 2026: log time 0 of the tests."""

TOPIC = "gatemeter.events"
SECRET = bytes(range(32))
OPERATOR = signing.OperatorKey.generate("ops")
ATTESTER = signing.OperatorKey.generate("attester")
PRICES = {"input_text_uncached": 2_500_000, "output_text_visible": 10_000_000, "input_text_cache_read": 1_250_000}


def standard_view(**parameters: Any) -> ViewBuilder:
    """Two gateways, the ticker, two tenants with plans, two models, a policy."""
    return (
        ViewBuilder()
        .parameters(**parameters)
        .gateway("gw-a", "a-1")
        .gateway("gw-b", "b-1")
        .gateway("_tick", "tick-1", kind="policy_point")
        .plan("standard", markup_ppm=150_000)
        .plan("claims", markup_ppm=33_333, retry_rule="final_only", accept_claimed_identity=True)
        .tenant("acme", plan_id="standard", cost_centre="cc-1")
        .tenant("globex", plan_id="claims", cost_centre="cc-2")
        .rate("openai", "gpt", PRICES)
        .policy("pii", 3_000_000, 7)
    )


class FakeMetadata:
    """Views by offset, as `MetadataLog` gives them; below each offset there is a record of that number."""

    topic = "gatemeter.metadata"

    def published(self, first: int, after: int) -> list[Published]:
        tenant = {"tenant_id": "acme", "plan_id": "standard"}
        return [Published(number, "ops", 0, codec.Decoded("Tenant", tenant)) for number in range(first, after)]

    def __init__(self, views: Mapping[int, View]) -> None:
        self.views = dict(views)

    def view(self, offset: int) -> View:
        if offset not in self.views:
            raise NeedsMetadata(offset)
        return self.views[offset]


def digest(value: bytes) -> bytes:
    """BLAKE2b-256, as an Admit names a record."""
    return hashlib.blake2b(value, digest_size=32).digest()


def build(builder: ViewBuilder, offset: int = 1) -> View:
    """The view of a builder at a metadata offset, with a digest of its own."""
    return builder.view(offset, bytes([offset]) * 32)


class Log:
    """One partition: append what you like at chosen log times (microseconds after `START_US`)."""

    def __init__(self, partition: int = 0) -> None:
        self.partition = partition
        self.records: list[LogRecord] = []

    def append(self, value: bytes, headers: Sequence[tuple[str, bytes]], at_us: int, key: bytes = b"") -> LogRecord:
        record = LogRecord(len(self.records), START_US + at_us, key, value, tuple(headers))
        self.records.append(record)
        return record

    def control(self, view: View, at_us: int = 0) -> LogRecord:
        value = codec.encode(
            "Control",
            {
                "topic": TOPIC,
                "partition": self.partition,
                "metadata_offset": view.offset,
                "view_digest": view.digest,
                "issued_at": START_US + at_us,
            },
        )
        return self.append(value, OPERATOR.headers(value), at_us)

    def operate(self, name: str, at_us: int, key: signing.OperatorKey = OPERATOR, **datum: Any) -> LogRecord:
        """A Discard, Admit or Commit of an operator."""
        place = {"topic": TOPIC, "partition": self.partition, "reason": "because", "issued_at": START_US + at_us}
        value = codec.encode(name, {**place, **datum})
        return self.append(value, key.headers(value), at_us)

    def discard(self, refused: LogRecord, index: int, gateway: Gateway, span: tuple[int, int], at_us: int) -> LogRecord:
        """Gives up the sequences [span) that a refused record or event holds."""
        what = {"offset": refused.offset, "event_index": index, "first_sequence": span[0], "next_sequence": span[1]}
        return self.operate("Discard", at_us, gateway_id=gateway.gateway_id, epoch=gateway.epoch, **what)

    def admit(self, refused: LogRecord, kid: str, at_us: int) -> LogRecord:
        """Lets the next copy of a record in although its key has ended."""
        return self.operate("Admit", at_us, record_digest=digest(refused.value), kid=kid)

    def commit(self, run_id: str, at_us: int) -> LogRecord:
        """Makes a run of corrections real."""
        run = {"run_id": run_id, "rows_digest": bytes(32), "entries": 1, "cause": "reprice"}
        return self.operate("Commit", at_us, **run)

    def again(self, record: LogRecord, at_us: int) -> LogRecord:
        """The same bytes once more."""
        return self.append(record.value, record.headers, at_us, record.key or b"")


class Gateway:
    """One run of an emitter process for one partition."""

    def __init__(
        self,
        log: Log,
        gateway_id: str = "gw-a",
        kid: str = "a-1",
        *,
        run: int = 1,
        start_us: int = 0,
        kind: str = "inference_proxy",
    ) -> None:
        self.log = log
        self.gateway_id = gateway_id
        self.kid = kid
        self.kind = kind
        self.epoch = f"{START_US + start_us}-{run}-{run:016x}"
        self.sequence = 0

    def bodies(self, events: Iterable[Mapping[str, Any]]) -> list[bytes]:
        return [codec.encode_event(event) for event in events]

    def value(self, bodies: Sequence[bytes], first_sequence: int, at_us: int, **envelope: Any) -> bytes:
        return codec.encode_batch(
            {
                "gateway_id": self.gateway_id,
                "gateway_kind": self.kind,
                "epoch": self.epoch,
                "topic": TOPIC,
                "partition": self.log.partition,
                "first_sequence": first_sequence,
                "sent_at": START_US + at_us,
                "counters": {"emitted": first_sequence + len(bodies), "spooled": 0, "dropped": 0},
                "closed": False,
                **envelope,
            },
            bodies,
        )

    def attestation(self, first: int, after: int, **changed: Any) -> bytes:
        """An envelope over [first, after), signed by `ATTESTER`; its digests are blank unless `changed` says them."""
        statement = {
            "gateway_id": self.gateway_id,
            "epoch": self.epoch,
            "topic": TOPIC,
            "partition": self.log.partition,
            "from_sequence": first,
            "to_sequence": after,
            "previous": bytes(32),
            "events_digest": bytes(32),
            "attested_at": START_US,
            **changed,
        }
        value = codec.encode("Attestation", statement)
        entry = {"kid": ATTESTER.kid, "attestation": value, "signature": ATTESTER.sign(value)}
        return codec.encode("AttestationEnvelope", entry)

    def headers(self, value: bytes) -> list[tuple[str, bytes]]:
        return [(signing.KID_HEADER, self.kid.encode()), (signing.MAC_HEADER, signing.mac(SECRET, value))]

    def send(self, events: Sequence[Mapping[str, Any]], at_us: int, *, first_sequence: int | None = None) -> LogRecord:
        """Appends a batch; a chosen `first_sequence` re-sends."""
        first = self.sequence if first_sequence is None else first_sequence
        value = self.value(self.bodies(events), first, at_us)
        self.sequence = max(self.sequence, first + len(events))
        return self.log.append(value, self.headers(value), at_us, self.gateway_id.encode())


def event(kind: str, request: str, at_us: int, *, started_us: int | None = None, **fields: Any) -> dict[str, Any]:
    """A GatewayEvent of tenant acme at a time after `START_US`."""
    base: dict[str, Any] = {
        "kind": kind,
        "request_id": request,
        "attempt": 0 if kind == "POLICY" else 1,
        "request_started_at": START_US + (at_us if started_us is None else started_us),
        "occurred_at": START_US + at_us,
        "tenant_id": "acme",
        "app_id": "chat",
        "workload_id": "w-1",
        "identity_source": "verified_credential",
        "provider": "openai",
        "model": "gpt",
        "workload_class": "realtime",
        "purpose": "workload",
        "gateway_cache": "none",
        "usage_revision": 0,
    }
    return {**base, **fields}


def request(request_id: str, at_us: int, **fields: Any) -> dict[str, Any]:
    return event("REQUEST", request_id, at_us, **fields)


def response(
    request_id: str, at_us: int, *, tokens: tuple[int, int] | None = (100, 20), **fields: Any
) -> dict[str, Any]:
    usage = {} if tokens is None else {"input_text_uncached": tokens[0], "output_text_visible": tokens[1]}
    base = {"status": "ok", "delivered": True, "http_status": 200, "latency_us": 900_000, "usage_source": "reported"}
    return event("RESPONSE", request_id, at_us, **{**base, **usage, **fields})


def policy(request_id: str, at_us: int, decision: str, **fields: Any) -> dict[str, Any]:
    base = {"decision_id": decision, "policy_id": "pii", "policy_version": "1", "outcome": "allow", "units": 3}
    return event("POLICY", request_id, at_us, **{**base, **fields})


def new_fold(
    views: Mapping[int, View],
    *,
    columnar: bool,
    checkpoint: Mapping[str, Any] | None = None,
    partition: int = 0,
    secrets: Mapping[str, bytes] | None = None,
    now_us: int = START_US + 400 * 86_400_000_000,
) -> PartitionFold:
    """A fold that trusts the gateways of `standard_view`."""
    trusted = dict.fromkeys(("a-1", "b-1", "tick-1", "c-1"), SECRET) if secrets is None else secrets
    return PartitionFold(
        topic=TOPIC,
        partition=partition,
        partitions=1,
        metadata=FakeMetadata(views),  # type: ignore[arg-type]
        trust=Trust(trusted, {OPERATOR.kid: OPERATOR.public_hex}),
        worker="test",
        checkpoint=checkpoint,
        columnar=columnar,
        now_us=lambda: now_us,
    )


def run(fold: PartitionFold, records: Sequence[LogRecord], cuts: Sequence[int] = ()) -> list[Output]:
    """Feeds records, cut before the given offsets."""
    edges = [0, *sorted(cuts), len(records)]
    parts = [records[a:b] for a, b in pairwise(edges) if b > a]
    return [completed(fold.fold(part), records) for part in parts]


def completed(output: Output, records: Sequence[LogRecord]) -> Output:
    """An output as a worker writes it: with the rows of conflicts. `records`: the log from its beginning."""
    output.complete(records.__getitem__)
    return output


KEYS = {
    "usage_facts": ("posted_hour", "gateway_id", "request_id", "attempt", "response_hash"),
    "policy_facts": ("posted_hour", "gateway_id", "decision_id", "content_hash"),
    "usage_windows": (
        *("window_start", "gateway_id", "tenant_id", "app_id", "workload_id", "provider", "model", "purpose"),
        *("evidence_grade", "usage_source", "policy_id", "outcome", "currency", "topic", "partition", "slice"),
    ),
    "quarantine": ("topic", "partition", "offset", "event_index"),
    "evidence": ("topic", "partition", "offset", "event_index"),
    "exceptions": ("topic", "partition", "offset", "event_index", "kind"),
    "quarantine_discards": ("topic", "partition", "offset", "event_index", "discard_offset"),
    "commits": ("run_id", "version"),
    "operator_log": ("topic", "partition", "offset"),
    "attestations": ("gateway_id", "epoch", "topic", "partition", "from_sequence", "to_sequence", "offset"),
}
_VERSION = {"usage_facts": "version", "policy_facts": "version", "usage_windows": "revision"}

Rows = dict[tuple[Any, ...], dict[str, Any]]


def collapse(outputs: Sequence[Output]) -> dict[str, Rows]:
    """What the tables hold after ReplacingMergeTree: by table and key one row, of equal versions the last."""
    tables: dict[str, Rows] = {table: {} for table in KEYS}
    for output in outputs:
        for table, rows in output.tables.items():
            if table in KEYS:
                for row in to_rows(table, rows):
                    _keep(tables[table], KEYS[table], row, _VERSION.get(table))
    return tables


def _keep(rows: Rows, key_names: tuple[str, ...], row: dict[str, Any], version: str | None) -> None:
    key = tuple(row[name] for name in key_names)
    before = rows.get(key)
    if before is None or version is None or row[version] >= before[version]:
        rows[key] = row


def to_rows(table: str, rows: pa.Table) -> list[dict[str, Any]]:
    """Python rows; times as microseconds after `START_US`, amounts as pico ints."""
    columns = {}
    for name, kind in TABLES[table]:
        values = rows[name].to_pylist() if kind != "time" else rows[name].cast(pa.int64()).to_pylist()
        if kind.startswith("pico"):
            values = [None if value is None else int(value.scaleb(12)) for value in values]
        columns[name] = values
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def received(outputs: Sequence[Output]) -> set[tuple[str, str, int, bytes]]:
    """What `gateway_epochs` states as received: (gateway, epoch, sequence, content hash)."""
    seen = set()
    for output in outputs:
        if "gateway_epochs" in output.tables:
            for row in to_rows("gateway_epochs", output.tables["gateway_epochs"]):
                sequences = range(row["first_sequence"], row["next_sequence"])
                hashes = row["content_hashes"]
                assert len(hashes) == 16 * len(sequences)
                for number, sequence in enumerate(sequences):
                    seen.add((row["gateway_id"], row["epoch"], sequence, hashes[16 * number : 16 * number + 16]))
    return seen


def truth(tables: Mapping[str, Rows]) -> dict[tuple[str, str, int], dict[str, Any]]:
    """What views show of usage: of each attempt its row with the greatest version, over all posted hours."""
    chosen: dict[tuple[str, str, int], dict[str, Any]] = {}
    for row in tables["usage_facts"].values():
        key = (row["gateway_id"], row["request_id"], row["attempt"])
        if key not in chosen or row["version"] > chosen[key]["version"]:
            chosen[key] = row
    return chosen


def window_total(tables: Mapping[str, Rows], *measures: str) -> int:
    """Sum of some measures over all slices."""
    return sum(row[name] for row in tables["usage_windows"].values() for name in measures)


def assert_conserved(row: Mapping[str, Any] | None) -> None:
    """The two equations that hold in every row of `ingest_batches`, of a log that starts at offset 0."""
    assert row is not None
    records = ("records_batches", "records_operator", "records_quarantined")
    events = ("events_admitted", "events_duplicate", "events_conflict", "events_quarantined", "events_corroborating")
    assert row["records"] == row["next_offset"] == sum(row[name] for name in records)
    assert row["events_received"] == sum(row[name] for name in events)
