"""Detectors of who: credentials in new regions and networks, and those that are unknown, offboarded or expired."""

from __future__ import annotations

from collections.abc import Iterator

from gatemeter.sinks.exceptions.kinds import Finding
from gatemeter.sinks.exceptions.look import BEFORE, EVIDENCE_SQL, FACTS, WHO, Look


def new_regions(look: Look) -> Iterator[Finding]:
    """Credentials that called a model in a region in which they were not seen in the baseline."""
    known = "groupUniqArrayIf(toString(region), attempts > 0 AND region != '')"
    return look.findings("new_region", _new_places(look, "region", "region", known, "true"))


def new_networks(look: Look) -> Iterator[Finding]:
    """Credentials that were used from a network of clients from which they were not seen in the baseline.

    One that `known_networks_max` networks are usual for has no usual network: an app on telephones, a public page.
    """
    usual = f"length(places) <= {look.thresholds.sql('known_networks_max')}"
    query = _new_places(look, "client_network", "network", "groupUniqArrayArray(client_networks)", usual)
    return look.findings("new_client_network", query)


def _new_places(look: Look, column: str, word: str, known: str, usual: str) -> str:
    """Credentials in a place that is not `known`, where any was known on `baseline_min_days`.

    `column` of facts names the place; `known` is its aggregate over `exception_hours`, `usual` a condition on it.
    """
    return f"""
WITH known AS
(
    SELECT tenant_id, credential_fingerprint, arraySort(groupUniqArrayArray(each)) AS places
    FROM
    (
        SELECT tenant_id, credential_fingerprint, toDate(hour, 'UTC') AS day, {known} AS each
        FROM (SELECT * FROM exception_hours FINAL)
        WHERE {BEFORE} AND credential_fingerprint != ''
        GROUP BY tenant_id, credential_fingerprint, day
    )
    GROUP BY tenant_id, credential_fingerprint
    HAVING countIf(notEmpty(each)) >= {look.thresholds.sql("baseline_min_days")} AND {usual}
)
SELECT
    {WHO}, credential_fingerprint, toString(f.{column}) AS subject, 'medium' AS severity,
    concat('{word} ', subject) AS seen,
    concat('one of ', arrayStringConcat(arraySlice(any(b.places), 1, 10), ', ')) AS expected,
    {EVIDENCE_SQL}
FROM {FACTS} AS f
INNER JOIN known AS b ON f.tenant_id = b.tenant_id AND f.credential_fingerprint = b.credential_fingerprint
WHERE f.{column} != '' AND NOT has(b.places, toString(f.{column}))
GROUP BY {WHO}, credential_fingerprint, subject"""


def bad_credentials(look: Look) -> Iterator[Finding]:
    """Credentials that were offboarded or expired when they were used, as the fold saw it, and those that nobody
    registered, of tenants that register theirs.
    """
    query = f"""
SELECT
    {WHO}, credential_fingerprint,
    multiIf(attribution_note = 'credential_offboarded', 'offboarded_credential',
        attribution_note = 'credential_expired', 'expired_credential', 'unknown_credential') AS kind,
    if(kind = 'expired_credential', 'medium', 'high') AS severity,
    concat('credential ', credential_fingerprint, ', ', splitByChar('_', kind)[1]) AS seen,
    'a credential that is registered and in force' AS expected,
    {EVIDENCE_SQL}
FROM {FACTS} AS f
WHERE credential_fingerprint != '' AND (attribution_note IN ('credential_offboarded', 'credential_expired')
    OR (tenant_id IN (SELECT tenant_id FROM credentials)
        AND credential_fingerprint NOT IN (SELECT credential_fingerprint FROM credentials)))
GROUP BY {WHO}, credential_fingerprint, kind"""
    return look.findings("", query)
