"""The check of attestations as findings: what gateways signed against what was received and what became facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.auditing.logs import Kafka
from gatemeter.processors.metadata.keyrotation import public_attestation_keys
from gatemeter.processors.metadata.log import MetadataProblem
from gatemeter.processors.metadata.reading import MetadataUnreachable, read_metadata
from gatemeter.sinks.reports.attestations import AttestationKey, Attestations, attestations, keys_from
from gatemeter.sinks.reports.audit import CannotCheck, Finding, listed, note, ok, wrong
from gatemeter.sinks.reports.completeness import as_text

CHECK: Final = "attestations"
Keys = Mapping[str, AttestationKey]


@dataclass(frozen=True)
class AttestationCheck:
    """`keys` gives the gateways' public keys by key id, when the check is made."""

    client: Client
    keys: Callable[[], Keys]

    def look(self) -> Iterator[Finding]:
        """One finding an epoch and partition that does not hold; one for what is attested."""
        yield from _findings(attestations(self.client, self.keys()))


def keys_in_metadata(kafka: Kafka, operator_keys: Mapping[str, str], topic: str) -> Keys:
    """The attestation keys that operators have published. Raises `CannotCheck`."""
    try:
        copy = read_metadata(kafka.bootstrap, operator_keys, topic=topic, client=kafka.client)
        return keys_from(public_attestation_keys(copy.log.view(copy.log.loaded_to)))
    except (MetadataUnreachable, MetadataProblem) as error:
        raise CannotCheck(str(error)) from error


def _findings(result: Attestations) -> Iterator[Finding]:
    for check in result.epochs:
        if check.problem:
            yield wrong(CHECK, str(check.place), check.problem)
        elif check.missing:
            what = f"{check.missing_events:,} events are attested and were not received: {as_text(check.missing)}"
            yield wrong(CHECK, str(check.place), what, missing=listed(check.missing))
    unattested: dict[tuple[str, str], int] = {}
    for check in result.epochs:
        if check.unattested_events:
            key = (check.place.gateway_id, check.place.epoch)
            unattested[key] = unattested.get(key, 0) + check.unattested_events
    for (gateway_id, epoch), count in unattested.items():
        yield note(CHECK, f"{gateway_id} {epoch}", f"{count:,} events that no statement of the gateway covers (yet)")
    good = sum(1 for check in result.epochs if not check.problem and not check.missing)
    if good or not result.epochs:
        what = f"{result.attested:,} of {result.received:,} events received are attested, and facts agree with them"
        yield ok(CHECK, f"{good:,} epochs and partitions", what, received=result.received, attested=result.attested)
