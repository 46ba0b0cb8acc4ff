"""Detectors of who: credentials in new regions, and those that are unknown, offboarded or expired.

Facts say the region in which a model was called; no event says the network of the client, so no detector speaks of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatemeter.sinks.exceptions.kinds import Finding
from gatemeter.sinks.exceptions.look import BEFORE, EVIDENCE_SQL, FACTS, TODAY, WHO, Look


def new_regions(look: Look) -> Iterator[Finding]:
    """Credentials in a region in which they were not seen in the baseline, where they were seen at all on
    `baseline_min_days`.
    """
    query = f"""
WITH
    known AS
    (
        SELECT tenant_id, credential_fingerprint, arraySort(groupUniqArray(toString(region))) AS regions
        FROM (SELECT * FROM exception_hours FINAL)
        WHERE {BEFORE} AND attempts > 0 AND region != '' AND credential_fingerprint != ''
        GROUP BY tenant_id, credential_fingerprint
        HAVING uniqExact(toDate(hour, 'UTC')) >= {look.thresholds.sql("baseline_min_days")}
    ),
    flagged AS
    (
        SELECT DISTINCT tenant_id, credential_fingerprint, toString(region) AS new_region, regions
        FROM (SELECT * FROM exception_hours FINAL) AS h INNER JOIN known USING (tenant_id, credential_fingerprint)
        WHERE {TODAY} AND attempts > 0 AND region != '' AND NOT has(regions, toString(region))
    )
SELECT
    {WHO}, credential_fingerprint, b.new_region AS subject, 'medium' AS severity,
    concat('region ', subject) AS seen,
    concat('one of ', arrayStringConcat(arraySlice(any(b.regions), 1, 10), ', ')) AS expected,
    {EVIDENCE_SQL}
FROM flagged AS b
INNER JOIN {FACTS} AS f ON f.tenant_id = b.tenant_id AND f.credential_fingerprint = b.credential_fingerprint
    AND f.region = b.new_region
GROUP BY {WHO}, credential_fingerprint, subject"""
    return look.findings("new_region", query)


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
