"""Detectors of what is missing: answers, prices, tenants, meters, proofs; and of denials by policies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gatemeter.sinks.exceptions.kinds import EVIDENCE, Finding
from gatemeter.sinks.exceptions.look import EVIDENCE_SQL, FACTS, WHO, Look

_CORRECTED: Final = """
    (gateway_id, request_id, attempt) IN
    (
        SELECT gateway_id, request_id, attempt FROM replacements_as_of(through = '2299-12-31 23:00:00')
        WHERE target = 'usage'
    )"""
_DENIED: Final = """
    SELECT tenant_id, app_id, workload_id, policy_id, toDate(usage_hour, 'UTC') AS day, gateway_id, decision_id,
        any(request_id) AS request_id, min(request_started_at) AS request_started_at,
        argMax(policy_cost, version) AS provider_cost, argMax(toString(currency), version) AS currency
    FROM policy_facts
    WHERE outcome = 'deny' AND usage_hour >= {usual_from:DateTime64(6, 'UTC')}
        AND usage_hour < {until:DateTime64(6, 'UTC')}
        AND posted_hour >= {usual_from:DateTime64(6, 'UTC')} - INTERVAL 1 HOUR
        AND posted_hour < {until:DateTime64(6, 'UTC')} + INTERVAL 3 DAY
    GROUP BY tenant_id, app_id, workload_id, policy_id, day, gateway_id, decision_id
"""


def policy_denials(look: Look) -> Iterator[Finding]:
    """Policies that denied a workload `denials_min` times or more, and more than `denials_factor` times as often as on
    the second worst day of the baseline. The cost is that of the decisions.
    """
    number = look.thresholds.sql
    query = f"""
WITH
    denied AS ({_DENIED}),
    usual AS
    (
        SELECT {WHO}, policy_id, arrayReverseSort(groupArray(n))[2] AS expects
        FROM (SELECT {WHO}, policy_id, day, toInt64(count()) AS n FROM denied
            WHERE day < toDate({{since:DateTime64(6, 'UTC')}}, 'UTC') GROUP BY {WHO}, policy_id, day)
        GROUP BY {WHO}, policy_id
    )
SELECT
    {WHO}, policy_id AS subject,
    if(count() >= 10 * {number("denials_min")}, 'high', 'medium') AS severity,
    concat(toString(count()), ' requests denied by ', policy_id) AS seen,
    concat('fewer than ', toString({number("denials_min")}), ', or at most ', toString({number("denials_factor")}),
        ' × ', toString(any(b.expects)), ' as usual') AS expected,
    {EVIDENCE_SQL}
FROM denied AS f
LEFT JOIN usual AS b USING ({WHO}, policy_id)
WHERE f.day = toDate({{since:DateTime64(6, 'UTC')}}, 'UTC')
GROUP BY {WHO}, policy_id
HAVING count() >= {number("denials_min")} AND count() > {number("denials_factor")} * any(b.expects)"""
    return look.findings("policy_denials", query)


def orphans(look: Look) -> Iterator[Finding]:
    """Requests whose answer never came, `orphans_min` or more of a workload and model."""
    number = look.thresholds.sql
    query = f"""
SELECT
    {WHO}, provider, model, if(requests >= 100, 'medium', 'low') AS severity,
    concat(toString(uniqExact(f.gateway_id, f.request_id)), ' requests without an answer') AS seen,
    if({number("orphans_min")} = 1, 'an answer to each', concat('fewer than ', toString({number("orphans_min")})))
        AS expected,
    {EVIDENCE_SQL}
FROM {FACTS} AS f
WHERE status = 'orphan'
GROUP BY {WHO}, provider, model
HAVING requests >= {number("orphans_min")}"""
    return look.findings("orphans", query)


def unpriced(look: Look) -> Iterator[Finding]:
    """Usage without a price, that no correction has priced since."""
    query = f"""
SELECT
    {WHO}, provider, model, 'medium' AS severity,
    concat(toString(sum(f.input_tokens) + sum(f.output_tokens)), ' tokens of ', provider, ' ', model,
        ' without a price') AS seen,
    'a price in force' AS expected,
    {EVIDENCE_SQL}
FROM {FACTS} AS f
WHERE price_status = 'unpriced' AND NOT {_CORRECTED}
GROUP BY {WHO}, provider, model"""
    return look.findings("unpriced", query)


def unattributed(look: Look) -> Iterator[Finding]:
    """Usage that nobody bears, and that no correction has attributed since."""
    query = f"""
SELECT
    {WHO}, credential_fingerprint, attribution_note AS subject,
    if(endsWith(attribution_note, '_of_another_tenant'), 'high', 'medium') AS severity,
    concat('nobody bears it: ', replaceAll(attribution_note, '_', ' ')) AS seen,
    'a tenant, app and identity that are registered' AS expected,
    {EVIDENCE_SQL}
FROM {FACTS} AS f
WHERE attribution = 'unattributed' AND NOT {_CORRECTED}
GROUP BY {WHO}, credential_fingerprint, attribution_note"""
    return look.findings("unattributed", query)


def unmetered(look: Look) -> Iterator[Finding]:
    """Calls that evidence saw, no gateway metered and no correction charges. They have no cost that anybody knows."""
    if not look.rows("SELECT 1 AS any FROM evidence LIMIT 1"):
        return iter(())  # the views below read all facts
    query = f"""
SELECT
    {WHO}, provider, model, gateway_id AS subject, 'high' AS severity,
    concat(toString(count()), ' calls that ', subject, ' saw, ',
        toString(ifNull(sum(u.input_tokens), 0) + ifNull(sum(u.output_tokens), 0)),
        ' tokens') AS seen,
    'a fact of a gateway for each' AS expected,
    toUnixTimestamp64Micro(min(u.request_started_at)) AS first_seen_us,
    toUnixTimestamp64Micro(max(u.request_started_at)) AS last_seen_us,
    arraySlice(arraySort(groupUniqArray({EVIDENCE})(u.request_id)), 1, {EVIDENCE}) AS request_ids,
    toUInt64(count()) AS requests, CAST(NULL, 'Nullable(Decimal(38, 12))') AS cost, '' AS currency
FROM unmetered_calls AS u
WHERE charged_in_run = '' AND u.request_started_at >= {{since:DateTime64(6, 'UTC')}}
    AND u.request_started_at < {{until:DateTime64(6, 'UTC')}}
GROUP BY {WHO}, provider, model, gateway_id"""
    return look.findings("unmetered", query)


def unverified(look: Look) -> Iterator[Finding]:
    """What was refused on the day and is open in the quarantine; `request_ids` are places, topic[partition]@offset."""
    query = f"""
SELECT
    concat(reason, ' ', claimed_gateway_id) AS subject,
    if(reason IN ('bad_mac', 'wrong_gateway', 'wrong_partition', 'no_key_id', 'bad_signature'), 'high', 'medium')
        AS severity,
    concat(toString(count()), ' refused: ', reason, if(claimed_gateway_id = '', '', ', claims to be of '),
        claimed_gateway_id) AS seen,
    'records that a registered gateway signed and that can be read' AS expected,
    toUnixTimestamp64Micro(min(q.recorded_at)) AS first_seen_us,
    toUnixTimestamp64Micro(max(q.recorded_at)) AS last_seen_us,
    arraySlice(arraySort(groupUniqArray({EVIDENCE})(
        concat(topic, '[', toString(partition), ']@', toString(offset)))), 1, {EVIDENCE}) AS request_ids,
    toUInt64(count()) AS requests, CAST(NULL, 'Nullable(Decimal(38, 12))') AS cost, '' AS currency
FROM quarantine_state AS q
WHERE state = 'open' AND recorded_at >= {{since:DateTime64(6, 'UTC')}} AND recorded_at < {{until:DateTime64(6, 'UTC')}}
GROUP BY reason, claimed_gateway_id"""
    return look.findings("unverified", query)
