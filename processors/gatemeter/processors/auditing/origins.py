"""A fact against the gateway's own record: which of the columns that the gateway said differ, while Kafka still has it.

What the fold adds (prices, provenance, attribution, also the tenant and app of a registered identity) is not in the
record: that is the re-fold's to compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.auditing.logs import Kafka, LogReader
from gatemeter.schemas import codec
from gatemeter.sinks.reports.audit import CannotCheck
from gatemeter.sinks.rows import query_rows

_FACT: Final = {
    "usage": "SELECT * FROM usage_facts FINAL WHERE gateway_id = {gateway:String} AND request_id = {request:String}"
    " AND attempt = {attempt:Int64} AND response_hash = {hash:String}",
    "decision": "SELECT * FROM policy_facts FINAL WHERE gateway_id = {gateway:String}"
    " AND decision_id = {request:String} AND content_hash = {hash:String}",
}
_NOT_SAID: Final = frozenset({"content_hash", "gateway_id"})
_GIVEN: Final = frozenset({"tenant_id", "app_id"})
"""What a registered identity may give where the event says nothing."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class RecordsOf:
    """Reads the records of facts from Kafka."""

    def __init__(self, client: Client, kafka: Kafka) -> None:
        self._client = client
        self._kafka = kafka

    def columns_of(self, leaf: Mapping[str, Any]) -> str:
        """Of a fact that was changed, by its leaf's key: what differs from the record, for people."""
        if leaf["kind"] not in _FACT:
            return ""
        asked = {
            "gateway": leaf["gateway_id"],
            "request": leaf["request_id"],
            "attempt": leaf["attempt"],
            "hash": leaf["hash"],
        }
        for fact in query_rows(self._client, "read a fact", _FACT[str(leaf["kind"])], asked):
            try:
                with LogReader(self._kafka) as reader:
                    record = reader.record_at(fact["topic"], int(fact["partition"]), int(fact["offset"]))
                event = codec.decode(record.value).datum["events"][int(fact["event_index"])]
            except (CannotCheck, codec.CodecError, KeyError, IndexError):
                return "; the record that it names is not in Kafka"
            found = differences(fact, event)
            if found:
                return ": " + ", ".join(f"{name} {then} → {now}" for name, (then, now) in found.items())
            return "; what the gateway said is unchanged, so it is a price, an attribution or an origin (see --refold)"
        return ""


def differences(fact: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Columns of a fact that say another thing than the event: name → (event, fact)."""
    found = {}
    for name, said in event.items():
        if name not in fact or name in _NOT_SAID:
            continue
        now = _plain(fact[name])
        if not said and name in _GIVEN:
            continue
        if now != said and not (said is None and (now is None or isinstance(now, str))):
            found[name] = (said, now)
    return found


def _plain(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
