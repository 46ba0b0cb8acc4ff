"""Detector of cache misses where hits were usual, of the provider's prompt cache and of the gateway's own."""

from __future__ import annotations

from collections.abc import Iterator

from gatemeter.sinks.exceptions.kinds import Finding
from gatemeter.sinks.exceptions.look import BEFORE, EVIDENCE_SQL, FACTS, TODAY, WHO, Look


def cache_misses(look: Look) -> Iterator[Finding]:
    """Workloads and models whose share of hits was `cache_usual_percent` or more in the baseline and is less than half
    of its usual in `cache_miss_hours` hours of the day with enough traffic: one hour of a cold cache is none.
    """
    number = look.thresholds.sql
    sides = (
        ("prompt cache", "cache_read_tokens", "input_tokens", number("cache_min_tokens"), "f.cache_read_tokens = 0"),
        ("gateway cache", "cache_hits", "cache_lookups", "1", "f.gateway_cache = 'miss'"),
    )
    for name, hits, of, least, missed in sides:
        query = f"""
WITH
    usual AS
    (
        SELECT {WHO}, provider, model, sum(h.{hits}) AS usual_hits, sum(h.{of}) AS usual_of
        FROM (SELECT * FROM exception_hours FINAL) AS h
        WHERE {BEFORE}
        GROUP BY {WHO}, provider, model
        HAVING uniqExact(toDate(hour, 'UTC')) >= {number("baseline_min_days")}
            AND 100 * usual_hits >= {number("cache_usual_percent")} * usual_of AND usual_of > 0
    ),
    cold AS
    (
        SELECT {WHO}, provider, model, hour, sum(h.{hits}) AS hits, sum(h.{of}) AS of, any(usual_hits) AS before,
            any(usual_of) AS before_of
        FROM (SELECT * FROM exception_hours FINAL) AS h INNER JOIN usual USING ({WHO}, provider, model)
        WHERE {TODAY}
        GROUP BY {WHO}, provider, model, hour
        HAVING of >= {least} AND sum(h.requests) >= {number("cache_min_requests")}
            AND 2 * hits / of < before / before_of
    ),
    flagged AS
    (
        SELECT {WHO}, provider, model, groupArray(hour) AS cold_hours, sum(c.hits) AS all_hits, sum(c.of) AS all_of,
            any(before) AS usual_hits, any(before_of) AS usual_of
        FROM cold AS c
        GROUP BY {WHO}, provider, model
        HAVING count() >= {number("cache_miss_hours")}
    )
SELECT
    {WHO}, provider, model, '{name}' AS subject, 'medium' AS severity,
    concat(toString(toInt64(100 * any(b.all_hits) / any(b.all_of))), ' % from the ', subject, ' in ',
        toString(any(length(b.cold_hours))), ' hours') AS seen,
    concat('usually ', toString(toInt64(100 * any(b.usual_hits) / any(b.usual_of))), ' %') AS expected,
    {EVIDENCE_SQL}
FROM flagged AS b
INNER JOIN {FACTS} AS f ON f.tenant_id = b.tenant_id AND f.app_id = b.app_id AND f.workload_id = b.workload_id
    AND f.provider = b.provider AND f.model = b.model
WHERE has(b.cold_hours, f.usage_hour) AND {missed}
GROUP BY {WHO}, provider, model"""
        yield from look.findings("cache_misses", query)
