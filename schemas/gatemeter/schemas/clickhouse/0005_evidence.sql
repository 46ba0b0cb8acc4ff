-- Evidence beside facts: what was seen elsewhere, which fact it agrees with, and what nobody metered. Nothing here is money.

-- Every call that evidence saw, once: of its events the RESPONSE of the highest usage revision, else the REQUEST.
-- `place` names it: topic/partition/offset/event_index.
CREATE OR REPLACE VIEW evidence_calls AS
SELECT
    concat(topic, '/', toString(partition), '/', toString(offset), '/', toString(event_index)) AS place,
    * EXCEPT (in_call, kind, status, decision_id, subject_gateway_id, policy_id, policy_version, outcome, units,
        evaluator_request_id),
    kind = 'RESPONSE' AS has_response,
    if(kind = 'RESPONSE', status, 'unanswered') AS status,
    if(coalesce(input_text_uncached, input_text_cache_read, input_text_cache_write_5m, input_text_cache_write_1h,
            input_audio_uncached, input_audio_cache_read, input_image_uncached, input_image_cache_read) IS NULL, NULL,
        ifNull(input_text_uncached, 0) + ifNull(input_text_cache_read, 0) + ifNull(input_text_cache_write_5m, 0)
            + ifNull(input_text_cache_write_1h, 0) + ifNull(input_audio_uncached, 0) + ifNull(input_audio_cache_read, 0)
            + ifNull(input_image_uncached, 0) + ifNull(input_image_cache_read, 0)) AS input_tokens,
    if(coalesce(output_text_visible, output_text_reasoning, output_audio_visible, output_image_visible) IS NULL, NULL,
        ifNull(output_text_visible, 0) + ifNull(output_text_reasoning, 0)
            + ifNull(output_audio_visible, 0) + ifNull(output_image_visible, 0)) AS output_tokens
FROM
(
    SELECT
        *,
        row_number() OVER (
            PARTITION BY gateway_id, request_id, attempt
            ORDER BY kind = 'RESPONSE' DESC, usage_revision DESC, length(topic), topic, offset, event_index) AS in_call
    FROM evidence
    WHERE kind != 'POLICY'
)
WHERE in_call = 1;

-- The facts that evidence may be about: attempts of a trace or a provider's request id that evidence names, the truth
-- about each. Tokens that a gateway's cache answered count too: the caller saw them.
CREATE OR REPLACE VIEW evidence_candidates AS
SELECT
    gateway_id, request_id, attempt,
    best.1 AS provider_request_id, best.2 AS trace_id, best.3 AS provider, best.4 AS model, best.5 AS served_model,
    best.6 AS status, best.7 AS request_started_at, best.8 AS occurred_at, best.9 AS input_tokens,
    best.10 AS output_tokens
FROM
(
    SELECT
        gateway_id, request_id, attempt,
        argMax((
            provider_request_id, trace_id, toString(provider), toString(model), toString(served_model),
            toString(status), request_started_at, occurred_at,
            if(coalesce(input_text_uncached, input_text_cache_read, input_text_cache_write_5m,
                    input_text_cache_write_1h, input_audio_uncached, input_audio_cache_read, input_image_uncached,
                    input_image_cache_read, avoided_input_tokens) IS NULL, NULL,
                ifNull(input_text_uncached, 0) + ifNull(input_text_cache_read, 0) + ifNull(input_text_cache_write_5m, 0)
                    + ifNull(input_text_cache_write_1h, 0) + ifNull(input_audio_uncached, 0)
                    + ifNull(input_audio_cache_read, 0) + ifNull(input_image_uncached, 0)
                    + ifNull(input_image_cache_read, 0) + ifNull(avoided_input_tokens, 0)),
            if(coalesce(output_text_visible, output_text_reasoning, output_audio_visible, output_image_visible,
                    avoided_output_tokens) IS NULL, NULL,
                ifNull(output_text_visible, 0) + ifNull(output_text_reasoning, 0) + ifNull(output_audio_visible, 0)
                    + ifNull(output_image_visible, 0) + ifNull(avoided_output_tokens, 0))
        ), version) AS best
    FROM usage_facts
    WHERE (gateway_id, request_id) IN
    (
        SELECT gateway_id, request_id
        FROM usage_facts
        WHERE (trace_id != '' AND trace_id IN (SELECT trace_id FROM evidence WHERE kind != 'POLICY'))
            OR (provider_request_id != ''
                AND provider_request_id IN (SELECT provider_request_id FROM evidence WHERE kind != 'POLICY'))
    )
    GROUP BY gateway_id, request_id, attempt
);

-- Which fact of another gateway each call of evidence agrees with.
-- 1. By the provider's request id, where both sides state it.
-- 2. Else by the trace, among facts that no call of this gateway names by id; where both sides state an id they are
--    different calls. A call with an id that no fact states must also have the status of the fact.
--    One call and one fact of a trace are each other's, whatever model they name. Where there are more, those of the same
--    model asked for are taken in the order of their starts, the first with the first: `ambiguous` says that which of them
--    is whose is not certain, how many have none is.
CREATE OR REPLACE VIEW evidence_trace_matches AS
WITH
    by_id AS
    (
        SELECT DISTINCT e.gateway_id AS seen_by, e.provider_request_id AS named, f.gateway_id AS gateway_id,
            f.request_id AS request_id, f.attempt AS attempt
        FROM evidence_calls AS e
        INNER JOIN evidence_candidates AS f ON e.provider_request_id = f.provider_request_id
        WHERE e.provider_request_id != '' AND e.gateway_id != f.gateway_id
    ),
    calls AS
    (
        SELECT place, gateway_id, trace_id, model, request_started_at, occurred_at, request_id, attempt,
            if(provider_request_id = '', '', status) AS same
        FROM evidence_calls
        WHERE trace_id != ''
            AND (gateway_id, provider_request_id) NOT IN (SELECT seen_by, named FROM by_id)
    ),
    sought AS (SELECT DISTINCT gateway_id, trace_id, same FROM calls),
    found AS
    (
        SELECT s.gateway_id AS seen_by, s.trace_id AS trace_id, s.same AS same, f.model AS model,
            f.gateway_id AS gateway_id, f.request_id AS request_id, f.attempt AS attempt,
            f.request_started_at AS request_started_at
        FROM sought AS s
        INNER JOIN evidence_candidates AS f ON s.trace_id = f.trace_id
        WHERE s.gateway_id != f.gateway_id
            AND (s.same = '' OR (f.provider_request_id = '' AND f.status = s.same))
            AND (s.gateway_id, f.gateway_id, f.request_id, f.attempt) NOT IN
            (
                SELECT seen_by, gateway_id, request_id, attempt FROM by_id
            )
    ),
    numbered_calls AS
    (
        SELECT *,
            count() OVER (PARTITION BY gateway_id, trace_id, same) AS calls_of_trace,
            row_number() OVER (
                PARTITION BY gateway_id, trace_id, same, model
                ORDER BY request_started_at, occurred_at, request_id, attempt) AS number
        FROM calls
    ),
    numbered_facts AS
    (
        SELECT *,
            count() OVER (PARTITION BY seen_by, trace_id, same) AS facts_of_trace,
            row_number() OVER (
                PARTITION BY seen_by, trace_id, same, model
                ORDER BY request_started_at, gateway_id, request_id, attempt) AS number
        FROM found
    )
SELECT c.place AS place, f.gateway_id AS gateway_id, f.request_id AS request_id, f.attempt AS attempt,
    c.calls_of_trace > 1 OR f.facts_of_trace > 1 AS ambiguous
FROM numbered_calls AS c
INNER JOIN numbered_facts AS f ON c.gateway_id = f.seen_by AND c.trace_id = f.trace_id AND c.same = f.same
WHERE (c.calls_of_trace = 1 AND f.facts_of_trace = 1) OR (c.model = f.model AND c.number = f.number);

-- Every call of evidence with the fact that it agrees with ('' for none), and in what they differ: (what, as the evidence
-- says, as the fact says). What one side does not state is no difference.
CREATE OR REPLACE VIEW evidence_matches AS
SELECT
    e.*,
    multiIf(fact_gateway_id = '', '', by_id, 'provider_request_id', 'trace_id') AS matched_by,
    is_ambiguous AS ambiguous,
    fact_gateway_id,
    fact_request_id,
    fact_attempt,
    if(fact_gateway_id = '', CAST([], 'Array(Tuple(String, String, String))'), arrayFilter(
        x -> x.2 != x.3 AND x.2 != '' AND x.3 != '',
        CAST([
            ('provider', toString(provider), fact_provider),
            ('model', toString(model), fact_model),
            ('served_model', toString(served_model), fact_served_model),
            ('status', toString(status), fact_status),
            ('input_tokens', ifNull(toString(input_tokens), ''), ifNull(toString(fact_input_tokens), '')),
            ('output_tokens', ifNull(toString(output_tokens), ''), ifNull(toString(fact_output_tokens), ''))
        ], 'Array(Tuple(String, String, String))'))) AS differs
FROM evidence_calls AS e
LEFT JOIN
(
    SELECT call_place, m.fact_gateway_id AS fact_gateway_id, m.fact_request_id AS fact_request_id,
        m.fact_attempt AS fact_attempt, is_ambiguous, by_id, f.provider AS fact_provider, f.model AS fact_model,
        f.served_model AS fact_served_model, f.status AS fact_status, f.input_tokens AS fact_input_tokens,
        f.output_tokens AS fact_output_tokens
    FROM
    (
        SELECT c.place AS call_place, f.gateway_id AS fact_gateway_id, f.request_id AS fact_request_id,
            f.attempt AS fact_attempt, false AS is_ambiguous, true AS by_id
        FROM evidence_calls AS c
        INNER JOIN evidence_candidates AS f ON c.provider_request_id = f.provider_request_id
        WHERE c.provider_request_id != '' AND c.gateway_id != f.gateway_id
        ORDER BY f.request_started_at, fact_gateway_id, fact_request_id, fact_attempt
        LIMIT 1 BY call_place
        UNION ALL
        SELECT place, gateway_id, request_id, attempt, ambiguous, false FROM evidence_trace_matches
    ) AS m
    INNER JOIN evidence_candidates AS f
        ON m.fact_gateway_id = f.gateway_id AND m.fact_request_id = f.request_id AND m.fact_attempt = f.attempt
) AS matched ON e.place = matched.call_place
SETTINGS join_use_nulls = 0;

-- Calls of evidence that committed corrections charge. `fact_gateway_id` is not '' where a gateway metered the call after
-- all, in a fact of its own: it is charged twice until the correction is taken back.
CREATE OR REPLACE VIEW charged_evidence AS
SELECT
    c.run_id AS run_id, c.entry AS entry, c.evidence_place AS evidence_place, c.tenant_id AS tenant_id,
    c.charge AS charge, c.currency AS currency, c.reason AS reason, e.gateway_id AS gateway_id,
    e.request_id AS request_id, e.attempt AS attempt, m.fact_gateway_id AS fact_gateway_id,
    m.fact_request_id AS fact_request_id, m.fact_attempt AS fact_attempt
FROM
(
    SELECT DISTINCT run_id, entry, evidence_place, ifNull(tenant_id, '') AS tenant_id, charge, currency, reason
    FROM corrections
    WHERE evidence_place != '' AND run_id IN (SELECT run_id FROM commits)
) AS c
INNER JOIN
(
    SELECT DISTINCT concat(topic, '/', toString(partition), '/', toString(offset), '/', toString(event_index)) AS place,
        gateway_id, request_id, attempt
    FROM evidence
) AS e ON c.evidence_place = e.place
INNER JOIN evidence_matches AS m
    ON e.gateway_id = m.gateway_id AND e.request_id = m.request_id AND e.attempt = m.attempt;

-- What evidence saw and no gateway metered, once the grace of every partition of its topic has passed (by log time). A
-- batch job without an answer is not over yet. `charged_in_run`: the committed correction that charges it ('': open).
CREATE OR REPLACE VIEW unmetered_calls AS
SELECT
    m.place AS place, m.gateway_id AS gateway_id, m.reason AS reason, m.authority_gateway_id AS authority_gateway_id,
    m.route AS route, m.request_id AS request_id, m.attempt AS attempt, m.request_started_at AS request_started_at,
    m.recorded_at AS recorded_at, m.status AS status, m.provider AS provider, m.model AS model,
    m.served_model AS served_model, m.provider_request_id AS provider_request_id, m.trace_id AS trace_id,
    m.idempotency_key AS idempotency_key, m.tenant_id AS tenant_id, m.app_id AS app_id, m.workload_id AS workload_id,
    m.identity_source AS identity_source, m.input_tokens AS input_tokens, m.output_tokens AS output_tokens,
    if(m.provider_request_id = '' AND m.trace_id = '', 'nothing to match by', 'no fact') AS why,
    c.charged_in AS charged_in_run
FROM evidence_matches AS m
INNER JOIN
(
    SELECT topic, min(floor) AS floor
    FROM
    (
        SELECT topic, partition, argMax(posting_floor, next_offset) AS floor, argMax(partitions, next_offset) AS of_topic
        FROM ingest_batches
        GROUP BY topic, partition
    )
    GROUP BY topic
    HAVING count() = max(of_topic)
) AS floors ON m.topic = floors.topic
LEFT JOIN
(
    SELECT gateway_id, request_id, attempt, min(run_id) AS charged_in
    FROM charged_evidence
    GROUP BY gateway_id, request_id, attempt
) AS c ON m.gateway_id = c.gateway_id AND m.request_id = c.request_id AND m.attempt = c.attempt
WHERE m.fact_gateway_id = ''
    AND m.recorded_at < floors.floor
    AND (m.has_response OR m.workload_class != 'batch')
SETTINGS join_use_nulls = 0;

-- Where an authority stays silent: open calls on its routes that it should have metered, and since when.
CREATE OR REPLACE VIEW silent_authorities AS
SELECT
    authority_gateway_id, gateway_id, route,
    count() AS calls,
    min(request_started_at) AS since,
    max(request_started_at) AS last,
    sum(u.input_tokens) AS input_tokens,
    sum(u.output_tokens) AS output_tokens
FROM unmetered_calls AS u
WHERE reason = 'authority' AND charged_in_run = ''
GROUP BY authority_gateway_id, gateway_id, route;

-- Calls that two gateways metered, each with a fact of its own: no authority is set between them.
CREATE OR REPLACE VIEW metered_twice AS
SELECT
    provider, provider_request_id,
    arraySort(groupArray(CAST((gateway_id, request_id, attempt, route, charge, currency),
        'Tuple(gateway_id String, request_id String, attempt UInt16, route String,
               charge Nullable(Decimal(38, 12)), currency String)'))) AS facts,
    min(request_started_at) AS request_started_at
FROM attempts
WHERE provider_request_id != ''
GROUP BY provider, provider_request_id
HAVING uniqExact(gateway_id) > 1;
