"""The checks of an audit in their order, from what the auditor gave: a database, and perhaps Kafka and keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.admission import Trust
from gatemeter.processors.auditing import anchored, attested, chain, refold, sealed
from gatemeter.processors.auditing.anchored import AnchorCheck
from gatemeter.processors.auditing.attested import AttestationCheck, Keys, keys_in_metadata
from gatemeter.processors.auditing.chain import ChainCheck
from gatemeter.processors.auditing.logs import Kafka
from gatemeter.processors.auditing.origins import RecordsOf
from gatemeter.processors.auditing.sealed import SealedHours
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC, SEALS_TOPIC
from gatemeter.sinks.reports import completeness, conservation, windows
from gatemeter.sinks.reports.audit import Check, Finding, not_asked
from gatemeter.sinks.reports.conservation import Conservation

NAMES: Final = (
    conservation.CHECK,
    completeness.CHECK,
    windows.CHECK,
    chain.CHECK,
    sealed.LEAVES,
    sealed.LEDGER,
    attested.CHECK,
    anchored.CHECK,
    refold.CHECK,
)
"""The checks in their order."""


@dataclass(frozen=True)
class Sources:
    """What the auditor gave; None where it did not. Public keys: key id → 64 hex digits."""

    client: Client
    kafka: Kafka | None = None
    operator_keys: Mapping[str, str] | None = None
    secrets: Mapping[str, bytes] | None = None
    refold: bool = False
    events_topic: str = EVENTS_TOPIC
    metadata_topic: str = METADATA_TOPIC
    seals_topic: str = SEALS_TOPIC
    sealers: Mapping[str, str] | None = None
    gateway_keys: Keys | None = None
    anchors: tuple[str, ...] = ()


class Checks:
    """The checks that the sources allow; the others say what they need."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self.conservation: Conservation | None = None
        """What the check of conservation saw last; None before it was made."""

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return frozenset(NAMES)

    def chosen(self, names: frozenset[str]) -> list[Check]:
        """The checks of these names, in order."""
        client, kafka = self._sources.client, self._sources.kafka
        hours = SealedHours(client, None if kafka is None else RecordsOf(client, kafka))
        checks = (
            Check(conservation.CHECK, self._conservation),
            Check(completeness.CHECK, lambda: completeness.check_completeness(client)),
            Check(windows.CHECK, lambda: windows.check_windows(client)),
            self._chain(),
            Check(sealed.LEAVES, hours.leaves, live=False),  # what is sealed does not change
            Check(sealed.LEDGER, hours.ledger, live=False),
            self._attestations(),
            self._anchors(),
            self._refold(),
        )
        return [check for check in checks if check.name in names]

    def _conservation(self) -> list[Finding]:
        self.conservation = conservation.conservation(self._sources.client)
        return conservation.findings(self.conservation)

    def _chain(self) -> Check:
        given = self._sources
        if given.sealers is None:
            return not_asked(chain.CHECK, "--sealers")
        made = ChainCheck(given.client, given.sealers, given.kafka, given.operator_keys, given.seals_topic)
        return Check(chain.CHECK, made.look)

    def _attestations(self) -> Check:
        given = self._sources
        keys, kafka, operators = given.gateway_keys, given.kafka, given.operator_keys
        if keys is not None:
            made = AttestationCheck(given.client, lambda: keys)
        elif kafka is not None and operators is not None:
            made = AttestationCheck(given.client, lambda: keys_in_metadata(kafka, operators, given.metadata_topic))
        else:
            return not_asked(attested.CHECK, "--gateway-keys, or --bootstrap and --operator-keys")
        return Check(attested.CHECK, made.look)

    def _anchors(self) -> Check:
        given = self._sources
        if not given.anchors:
            return not_asked(anchored.CHECK, "--anchor")
        return Check(anchored.CHECK, AnchorCheck(given.client, given.anchors, given.sealers).look)

    def _refold(self) -> Check:
        given = self._sources
        if not given.refold or given.kafka is None or given.operator_keys is None or given.secrets is None:
            return not_asked(refold.CHECK, "--refold with --bootstrap, --operator-keys and --secrets")
        trust = Trust(given.secrets, given.operator_keys)
        made = refold.Refold(given.client, given.kafka, given.events_topic, given.metadata_topic, trust)
        return Check(refold.CHECK, made.look, live=False)  # it looks again by itself
