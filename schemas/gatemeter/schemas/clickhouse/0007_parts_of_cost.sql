-- Parts of the cost by themselves: what policies cost and delay, what caches save, what callers tried again. Amounts are
-- those of `charge_lines`, each line once, so that every view adds up to what is charged; none of them is to be added to it.

-- What each decision cost and how long it took, linked to its request. One that a metered model call made is priced there:
-- its own amounts are 0, and the `evaluator_` columns show those of the call, which is a line of usage of its own (never
-- add them to the charge of usage). `evaluator`: '' where none is named, metered, or missing while no fact of it came.
CREATE OR REPLACE VIEW policy_overhead AS
SELECT
    l.usage_hour AS usage_hour, l.posted_hour AS posted_hour, l.gateway_id AS gateway_id, l.request_id AS request_id,
    l.attempt AS attempt, l.decision_id AS decision_id,
    l.tenant_id AS tenant_id, l.app_id AS app_id, l.workload_id AS workload_id, l.cost_centre AS cost_centre,
    l.policy_id AS policy_id, l.policy_version AS policy_version, l.outcome AS outcome, l.latency_us AS latency_us,
    f.said.1 AS units, f.said.2 AS scanned_tokens, f.said.3 AS billed_by,
    l.price_status AS price_status, l.currency AS currency,
    l.provider_cost AS provider_cost, l.internal_policy_cost AS internal_policy_cost, l.policy_cost AS policy_cost,
    l.markup AS markup, l.absorbed AS absorbed, l.charge AS charge,
    f.said.4 AS evaluator_request_id,
    multiIf(evaluator_request_id = '', '', e.request_id != '', 'metered', 'missing') AS evaluator,
    e.policy_cost AS evaluator_policy_cost, e.charge AS evaluator_charge, e.latency_us AS evaluator_latency_us,
    l.posting_period AS posting_period, l.seal_id AS seal_id
FROM (SELECT * FROM charge_lines WHERE kind = 'decision') AS l
LEFT JOIN
(
    SELECT gateway_id, decision_id, content_hash,
        argMax((units, scanned_tokens, toString(billed_by), evaluator_request_id), version) AS said
    FROM policy_facts
    GROUP BY gateway_id, decision_id, content_hash
) AS f ON l.gateway_id = f.gateway_id AND l.decision_id = f.decision_id AND l.response_hash = f.content_hash
LEFT JOIN
(
    SELECT
        request_id,
        if(uniqExact(c.currency) = 1, sum(c.policy_cost), NULL) AS policy_cost,
        if(uniqExact(c.currency) = 1, sum(c.charge), NULL) AS charge,
        sum(c.latency_us) AS latency_us
    FROM charge_lines AS c
    WHERE kind = 'usage' AND status NOT IN ('orphan', 'denied')
        AND request_id IN (SELECT evaluator_request_id FROM policy_facts WHERE evaluator_request_id != '')
    GROUP BY request_id
) AS e ON e.request_id = f.said.4
SETTINGS join_use_nulls = 0;

-- What hits of the gateways' caches saved, by the hour: the platform what a provider would have billed, the tenant the
-- charge that it would have borne less what its plan charges for the hit. In no total. Hits of which nobody can say what
-- they avoided are counted in `hits_without_price` and are in none of the amounts.
CREATE OR REPLACE VIEW cache_savings AS
SELECT
    usage_hour AS hour,
    tenant_id, app_id, workload_id, cost_centre, provider, model, purpose, currency,
    count() AS hits,
    countIf(isNull(l.avoided_charge)) AS hits_without_price,
    sum(ifNull(l.avoided_input_tokens, 0)) AS avoided_input_tokens,
    sum(ifNull(l.avoided_output_tokens, 0)) AS avoided_output_tokens,
    sum(l.avoided_provider_cost) AS avoided_provider_cost,
    sum(l.avoided_charge) AS avoided_charge,
    sum(l.cache_price) AS cache_price,
    sum(l.avoided_provider_cost) AS platform_saving,
    sum(l.avoided_charge - l.charge) AS tenant_saving
FROM charge_lines AS l
WHERE kind = 'usage' AND gateway_cache IN ('exact', 'semantic')
GROUP BY hour, tenant_id, app_id, workload_id, cost_centre, provider, model, purpose, currency;

-- What a caller tried again under one idempotency key: one group of separately priced requests. `charge` is that of all
-- their attempts; `repeated_charge` the part of it that requests cost beside the one that answered last. Amounts are NULL
-- where a group used two currencies (`currencies` names them). `retry_groups_of` reads the requests of some keys alone.
CREATE OR REPLACE VIEW retry_groups_of AS
WITH length(currencies) < 2 AS one_currency
SELECT
    tenant_id, app_id, workload_id, idempotency_key,
    arraySort(groupUniqArray(l.request_id)) AS request_ids,
    uniqExact((l.gateway_id, l.request_id)) AS requests,
    countIf(status != 'denied') AS attempts,
    countIf(price_status = 'unpriced') AS unpriced_attempts,
    anyIf(l.request_id, answered_last) AS answered_by_request,
    arraySort(groupUniqArrayIf(currency, currency != '')) AS currencies,
    if(one_currency, sum(l.provider_cost), NULL) AS provider_cost,
    if(one_currency, sum(l.charge), NULL) AS charge,
    if(one_currency, sum(if(answered_last, l.charge - l.charge, l.charge)), NULL) AS repeated_charge,
    min(request_started_at) AS first_started_at,
    max(request_started_at) AS last_started_at
FROM
(
    SELECT
        c.*, f.said.1 AS idempotency_key, f.said.2 AS request_started_at,
        (c.gateway_id, c.request_id) = argMaxIf((c.gateway_id, c.request_id), (f.said.2, c.gateway_id, c.request_id),
            c.attempt_role = 'answered')
            OVER (PARTITION BY c.tenant_id, c.app_id, c.workload_id, f.said.1) AS answered_last
    FROM
    (
        SELECT * FROM charge_lines
        WHERE kind = 'usage' AND request_id IN
        (
            SELECT request_id FROM usage_facts
            WHERE idempotency_key != '' AND (empty({keys:Array(String)}) OR idempotency_key IN {keys:Array(String)})
        )
    ) AS c
    INNER JOIN
    (
        SELECT gateway_id, request_id, attempt, response_hash,
            argMax((idempotency_key, request_started_at), version) AS said
        FROM usage_facts
        WHERE idempotency_key != '' AND (empty({keys:Array(String)}) OR idempotency_key IN {keys:Array(String)})
        GROUP BY gateway_id, request_id, attempt, response_hash
    ) AS f USING (gateway_id, request_id, attempt, response_hash)
) AS l
GROUP BY tenant_id, app_id, workload_id, idempotency_key
SETTINGS join_use_nulls = 0;

CREATE OR REPLACE VIEW retry_groups AS SELECT * FROM retry_groups_of(keys = []);
