"""Detectors of agents that go round in circles: the same prompt again and again, and tools that call tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gatemeter.sinks.exceptions.kinds import Finding
from gatemeter.sinks.exceptions.look import EVIDENCE_SQL, FACTS, WHO, Look

_LONGEST_RUN: Final = 10_000
"""So many requests of one digest are looked at; a run that is longer is found in its first ones."""


def agent_retries(look: Look) -> Iterator[Finding]:
    """Workloads that send the same content (digest) `agent_retries` times or more within `agent_retry_seconds`.

    Attempts of one request are the gateway's own retries and count once; only requests of such a run are evidence.
    """
    number = look.thresholds.sql
    query = f"""
WITH
    sent AS
    (
        SELECT {WHO}, content_digest, any({number("agent_retries")}) AS least,
            any({number("agent_retry_seconds")}) * 1000000 AS within,
            arraySort(groupUniqArray({_LONGEST_RUN})((toUnixTimestamp64Micro(request_started_at), request_id))) AS runs,
            toInt64(length(runs)) AS n
        FROM {FACTS}
        WHERE content_digest != ''
        GROUP BY {WHO}, content_digest
        HAVING uniqExact(request_id) >= least
    ),
    begun AS
    (
        SELECT {WHO}, content_digest, least, within, runs, n,
            arrayCumSum(arrayMap(i -> toInt64(i + least - 1 <= n AND runs[i + least - 1].1 - runs[i].1 <= within),
                range(1, n + 1))) AS starts
        FROM sent
    ),
    flagged AS
    (
        SELECT {WHO}, content_digest,
            arrayMap(x -> x.2, arrayFilter((x, i) -> starts[i] > if(i > least, starts[i - least], 0),
                runs, range(1, n + 1))) AS repeated,
            length(repeated) AS times, within
        FROM begun
        WHERE notEmpty(repeated)
    )
SELECT
    {WHO}, if(max(b.times) >= 10 * any({number("agent_retries")}), 'high', 'medium') AS severity,
    concat('the same content ', toString(max(b.times)), ' times, of ', toString(uniqExact(b.content_digest)),
        ' contents') AS seen,
    concat('fewer than ', toString(any({number("agent_retries")})), ' times in ',
        toString(any({number("agent_retry_seconds")})), ' s') AS expected,
    {EVIDENCE_SQL}
FROM (SELECT *, arrayJoin(repeated) AS request_id FROM flagged) AS b
INNER JOIN {FACTS} AS f ON f.tenant_id = b.tenant_id AND f.app_id = b.app_id AND f.workload_id = b.workload_id
    AND f.content_digest = b.content_digest AND f.request_id = b.request_id
GROUP BY {WHO}"""
    return look.findings("agent_retries", query)


def tool_fan_outs(look: Look) -> Iterator[Finding]:
    """Requests with `fan_out_children` children or more, and traces of `fan_out_trace` requests or more where nobody
    says who is whose parent.
    """
    number = look.thresholds.sql
    query = f"""
WITH
    chains AS
    (
        SELECT {WHO}, parent_request_id, if(parent_request_id = '', trace_id, '') AS of_trace,
            uniqExact(request_id) AS n,
            if(parent_request_id != '', any({number("fan_out_children")}), any({number("fan_out_trace")})) AS least
        FROM {FACTS}
        WHERE parent_request_id != '' OR trace_id != ''
        GROUP BY {WHO}, parent_request_id, of_trace
        HAVING n >= least
    )
SELECT
    {WHO}, if(max(b.n) >= 10 * any(b.least), 'high', 'medium') AS severity,
    concat(toString(max(b.n)), ' requests of ', if(argMax(b.parent_request_id, b.n) != '', 'request ', 'trace '),
        if(argMax(b.parent_request_id, b.n) != '', argMax(b.parent_request_id, b.n), argMax(b.of_trace, b.n)),
        ' (', toString(uniqExact(b.parent_request_id, b.of_trace)), ' such chains)') AS seen,
    concat('fewer than ', toString(argMax(b.least, b.n))) AS expected,
    {EVIDENCE_SQL}
FROM chains AS b
INNER JOIN {FACTS} AS f ON f.tenant_id = b.tenant_id AND f.app_id = b.app_id AND f.workload_id = b.workload_id
    AND f.parent_request_id = b.parent_request_id
WHERE b.of_trace = '' OR f.trace_id = b.of_trace
GROUP BY {WHO}"""
    return look.findings("tool_fan_out", query)
