"""Detectors of which model: first use, probing, and models that a tenant may not use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gatemeter.sinks.exceptions.kinds import Finding
from gatemeter.sinks.exceptions.look import BEFORE, EVIDENCE_SQL, FACTS, TODAY, WHO, Look

_REFUSED: Final = "(http_status >= 400 AND http_status < 500 AND http_status NOT IN (408, 429))"
"""An answer that says no, and not: later."""


def first_uses(look: Look) -> Iterator[Finding]:
    """Models that answered a workload for the first time in the baseline, where the workload itself is not new."""
    query = f"""
WITH
    known AS
    (
        SELECT {WHO}, groupUniqArray((toString(provider), toString(model))) AS models,
            uniqExact(toDate(hour, 'UTC')) AS days
        FROM (SELECT * FROM exception_hours FINAL)
        WHERE {BEFORE} AND answered > 0
        GROUP BY {WHO}
        HAVING days >= {look.thresholds.sql("baseline_min_days")}
    ),
    flagged AS
    (
        SELECT DISTINCT {WHO}, provider, model, length(models) AS used
        FROM (SELECT * FROM exception_hours FINAL) AS h INNER JOIN known USING ({WHO})
        WHERE {TODAY} AND answered > 0 AND NOT has(models, (toString(provider), toString(model)))
    )
SELECT
    {WHO}, provider, model, 'low' AS severity,
    concat('the first use of ', model, ' of ', provider) AS seen,
    concat('one of the ', toString(any(b.used)), ' models that it used in the last 14 days') AS expected,
    {EVIDENCE_SQL}
FROM flagged AS b
INNER JOIN {FACTS} AS f ON f.tenant_id = b.tenant_id AND f.app_id = b.app_id AND f.workload_id = b.workload_id
    AND f.provider = b.provider AND f.model = b.model
GROUP BY {WHO}, provider, model"""
    return look.findings("first_use_of_model", query)


def probings(look: Look) -> Iterator[Finding]:
    """Callers (workload and credential) that were refused `probing_errors` times by `probing_models` models or more,
    and were answered for money after that. Refusals are answers of 4xx other than 408 and 429.
    """
    number = look.thresholds.sql
    query = f"""
WITH
    flagged AS
    (
        SELECT {WHO}, credential_fingerprint, countIf({_REFUSED}) AS errors,
            uniqExactIf((provider, model), {_REFUSED}) AS models,
            groupArraySortedIf(10000)(request_started_at, {_REFUSED})[any({number("probing_errors")})] AS then
        FROM {FACTS}
        GROUP BY {WHO}, credential_fingerprint
        HAVING errors >= any({number("probing_errors")}) AND models >= any({number("probing_models")})
    )
SELECT
    {WHO}, credential_fingerprint, 'high' AS severity,
    concat(toString(any(b.errors)), ' refusals of ', toString(any(b.models)), ' models, then ',
        toString(uniqExactIf(f.request_id, f.status = 'ok')), ' paid answers') AS seen,
    concat('fewer than ', toString(any({number("probing_errors")})), ' refusals, of fewer than ',
        toString(any({number("probing_models")})), ' models, before spend') AS expected,
    {EVIDENCE_SQL}
FROM flagged AS b
INNER JOIN {FACTS} AS f ON f.tenant_id = b.tenant_id AND f.app_id = b.app_id AND f.workload_id = b.workload_id
    AND f.credential_fingerprint = b.credential_fingerprint
WHERE {_REFUSED} OR (f.status = 'ok' AND f.provider_cost > 0 AND f.request_started_at > b.then)
GROUP BY {WHO}, credential_fingerprint
HAVING countIf(f.status = 'ok') > 0"""
    return look.findings("model_probing", query)


def models_not_allowed(look: Look) -> Iterator[Finding]:
    """Models outside the patterns of `allowed_models` of a tenant, where it has any."""
    used = look.rows(
        f"SELECT DISTINCT toString(tenant_id) AS tenant, toString(model) AS model FROM exception_hours FINAL "
        f"WHERE {TODAY} AND attempts > 0 AND model != ''"
    )
    allows = look.thresholds.allows
    outside = sorted((row["tenant"], row["model"]) for row in used if not allows(row["tenant"], row["model"]))
    if not outside:
        return iter(())
    query = f"""
SELECT
    {WHO}, provider, model, 'high' AS severity,
    concat(toString(uniqExact(f.request_id)), ' requests for ', model) AS seen,
    'a model that the tenant may use (allowed_models)' AS expected,
    {EVIDENCE_SQL}
FROM {FACTS} AS f
WHERE has(arrayZip({{outside_tenants:Array(String)}}, {{outside_models:Array(String)}}), (tenant_id, model))
GROUP BY {WHO}, provider, model"""
    tenants, models = zip(*outside, strict=True)
    return look.findings("model_not_allowed", query, outside_tenants=list(tenants), outside_models=list(models))
