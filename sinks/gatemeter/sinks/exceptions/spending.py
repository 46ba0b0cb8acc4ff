"""Detectors of how much: bursts, spend spikes, premium models; each against what the workload itself is used to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gatemeter.sinks.exceptions.kinds import Finding
from gatemeter.sinks.exceptions.look import BEFORE, EVIDENCE_SQL, FACTS, TODAY, WHO, Look

_DAILY: Final = f"""
    SELECT {WHO}, currency, toDate(hour, 'UTC') AS day, sum(h.provider_cost) AS spent
    FROM (SELECT * FROM exception_hours FINAL) AS h
    WHERE {{when}} AND currency != ''
    GROUP BY {WHO}, currency, day
    HAVING spent > 0
"""


def bursts(look: Look) -> Iterator[Finding]:
    """Hours with more requests than `burst_factor` times the second busiest of the same time of day (an hour earlier
    and later too) in the baseline: so neither one earlier burst nor a regular peak misleads. Where a workload was not
    active at that time of day on `baseline_min_days`, its median hour says what is usual.
    """
    number = look.thresholds.sql
    days = number("baseline_min_days")
    query = f"""
WITH
    busy AS
    (
        SELECT {WHO}, hour, sum(h.requests) AS n
        FROM (SELECT * FROM exception_hours FINAL) AS h
        WHERE {TODAY} GROUP BY {WHO}, hour HAVING n >= {number("burst_min_requests")}
    ),
    before AS
    (
        SELECT {WHO}, hour AS then, sum(h.requests) AS usual
        FROM (SELECT * FROM exception_hours FINAL) AS h
        WHERE {BEFORE} AND ({WHO}) IN (SELECT {WHO} FROM busy) GROUP BY {WHO}, hour HAVING usual > 0
    ),
    flagged AS
    (
        SELECT {WHO}, hour, any(n) AS n,
            groupArrayIf(usual, ((toHour(hour) - toHour(then) + 25) % 24) <= 2) AS near,
            uniqExactIf(toDate(then, 'UTC'), ((toHour(hour) - toHour(then) + 25) % 24) <= 2) AS near_days,
            if(near_days >= {days}, arrayReverseSort(near)[2], toInt64(quantileExact(0.5)(usual))) AS expects
        FROM busy INNER JOIN before USING ({WHO})
        GROUP BY {WHO}, hour
        HAVING uniqExact(toDate(then, 'UTC')) >= {days} AND n > {number("burst_factor")} * greatest(expects, 1)
    )
SELECT
    {WHO}, if(max(b.n) >= 5 * {number("burst_factor")} * max(b.expects), 'high', 'medium') AS severity,
    concat(toString(max(b.n)), ' requests in the hour from ', formatDateTime(argMax(b.hour, b.n), '%H:%i'), ' UTC (',
        toString(uniqExact(b.hour)), ' such hours)') AS seen,
    concat('at most ', toString({number("burst_factor")}), ' × ', toString(argMax(b.expects, b.n)),
        ', what such an hour has usually') AS expected,
    {EVIDENCE_SQL}
FROM flagged AS b
INNER JOIN {FACTS} AS f ON f.tenant_id = b.tenant_id AND f.app_id = b.app_id AND f.workload_id = b.workload_id
    AND f.usage_hour = b.hour
GROUP BY {WHO}"""
    return look.findings("burst", query)


def spend_spikes(look: Look) -> Iterator[Finding]:
    """Workloads whose day costs more than `spend_spike_factor` times the second dearest day of the baseline."""
    number = look.thresholds.sql
    query = f"""
WITH
    before AS ({_DAILY.format(when=BEFORE)}),
    flagged AS
    (
        SELECT {WHO}, currency AS of_currency, any(now.spent) AS spent,
            arrayReverseSort(groupArray(before.spent))[2] AS expects
        FROM ({_DAILY.format(when=TODAY)}) AS now INNER JOIN before USING ({WHO}, currency)
        GROUP BY {WHO}, currency
        HAVING count() >= {number("baseline_min_days")} AND spent >= {number("spend_spike_min")}
            AND spent > {number("spend_spike_factor")} * if(count() > 1, expects, max(before.spent))
    )
SELECT
    {WHO}, of_currency AS subject,
    if(any(b.spent) > 5 * {number("spend_spike_factor")} * any(b.expects), 'critical', 'high') AS severity,
    concat(toString(any(b.spent)), ' ', subject, ' on this day') AS seen,
    concat('at most ', toString({number("spend_spike_factor")}), ' × ', toString(any(b.expects)), ' ', subject,
        ', the second dearest day of the last 14') AS expected,
    {EVIDENCE_SQL}
FROM flagged AS b
INNER JOIN {FACTS} AS f ON f.tenant_id = b.tenant_id AND f.app_id = b.app_id AND f.workload_id = b.workload_id
    AND f.currency = b.of_currency
GROUP BY {WHO}, of_currency"""
    return look.findings("spend_spike", query)


def premium_models(look: Look) -> Iterator[Finding]:
    """Workloads that begin to use a model whose list cost is `premium_cost_per_million` tokens or more for
    `premium_share_percent` of their answers; `premium_workloads` may, and so may who had half that share before.
    """
    number = look.thresholds.sql
    query = f"""
WITH
    used AS
    (
        SELECT {WHO}, provider, model, currency, {TODAY} AS today, sum(h.answered) AS n, sum(h.provider_cost) AS cost,
            sum(h.list_cost) AS list, sum(h.priced_tokens) AS tokens
        FROM (SELECT * FROM exception_hours FINAL) AS h
        WHERE ({BEFORE} OR {TODAY}) AND currency != '' AND answered > 0
        GROUP BY {WHO}, provider, model, currency, today
    ),
    shares AS
    (
        SELECT *, sum(n) OVER (PARTITION BY {WHO}, today) AS of_all,
            sumIf(n, NOT today) OVER (PARTITION BY {WHO}, provider, model, currency) AS before,
            sumIf(n, NOT today) OVER (PARTITION BY {WHO}) AS all_before
        FROM used
    ),
    flagged AS
    (
        SELECT {WHO}, provider, model, currency AS of_currency,
            intDiv(100 * n, of_all) AS share, if(all_before > 0, intDiv(100 * before, all_before), 0) AS usual,
            list * 1000000 / tokens AS dear
        FROM shares
        WHERE today AND tokens > 0 AND list * 1000000 >= {number("premium_cost_per_million")} * tokens
            AND cost >= {number("premium_min")}
            AND 100 * n >= {number("premium_share_percent")} * of_all
            AND NOT (all_before > 0 AND 200 * before >= {number("premium_share_percent")} * all_before)
    )
SELECT
    {WHO}, provider, model, of_currency AS subject, 'medium' AS severity,
    concat(toString(any(b.share)), ' % of the answers of the day, at ', toString(round(any(b.dear), 2)), ' ', subject,
        ' a million tokens') AS seen,
    concat('usually ', toString(any(b.usual)), ' %; premium is from ',
        toString({number("premium_cost_per_million")}), ' ', subject, ' a million tokens') AS expected,
    {EVIDENCE_SQL}
FROM flagged AS b
INNER JOIN {FACTS} AS f ON f.tenant_id = b.tenant_id AND f.app_id = b.app_id AND f.workload_id = b.workload_id
    AND f.provider = b.provider AND f.model = b.model AND f.currency = b.of_currency
GROUP BY {WHO}, provider, model, of_currency"""
    may = look.thresholds.matches
    for found in look.findings("premium_model", query):
        named = (found.workload_id, found.app_id)
        if not any(may("premium_workloads", found.tenant_id, name) for name in named):
            yield found
