-- Views for people. Money is only added within one currency, decisions are added to usage by UNION ALL, never by a join.
-- Amounts are Decimal(38, 12); NULL means that nothing in the group had a price: look at the unpriced columns beside it.

-- The truth about an attempt: its row with the greatest version over all posted hours, with its role in the request.
-- `charge` and `absorbed` are after the retry rule (`final_only` charges the answering attempt alone), the `fact_`
-- columns before it; `retry_cost` is the part of `charge` that attempts cost which did not answer: an "of which".
CREATE OR REPLACE VIEW attempts AS
WITH
    if(last_delivered > 0, last_delivered, last_ok) AS answering_attempt,
    multiIf(
        attempt = answering_attempt, 'answered',
        status = 'ok', 'hedge_lost',
        status = 'cancelled', 'cancelled',
        attempt < last_attempt, if(next_model = model, 'retried', 'fallback'),
        'failed') AS attempt_role,
    retry_rule = 'final_only' AND attempt_role != 'answered' AS absorbs
SELECT
    * EXCEPT (place, last_delivered, last_ok, last_attempt, next_model, charge, absorbed, absorbed_to),
    attempt_role,
    f.charge AS fact_charge,
    f.absorbed AS fact_absorbed,
    if(absorbs, f.charge - f.charge, f.charge) AS charge,
    if(absorbs, f.absorbed + f.charge, f.absorbed) AS absorbed,
    if(absorbs AND f.absorbed_to = '' AND f.charge != 0, 'retries', f.absorbed_to) AS absorbed_to,
    if(absorbs OR attempt_role = 'answered', f.charge - f.charge, f.charge) AS retry_cost,
    ifNull(input_text_uncached, 0) + ifNull(input_text_cache_read, 0) + ifNull(input_text_cache_write_5m, 0)
        + ifNull(input_text_cache_write_1h, 0) + ifNull(input_audio_uncached, 0) + ifNull(input_audio_cache_read, 0)
        + ifNull(input_image_uncached, 0) + ifNull(input_image_cache_read, 0) AS input_tokens,
    ifNull(output_text_visible, 0) + ifNull(output_text_reasoning, 0)
        + ifNull(output_audio_visible, 0) + ifNull(output_image_visible, 0) AS output_tokens
FROM
(
    SELECT
        *,
        maxIf(attempt, ifNull(delivered, false)) OVER request AS last_delivered,
        maxIf(attempt, status = 'ok') OVER request AS last_ok,
        max(attempt) OVER request AS last_attempt,
        leadInFrame(model) OVER in_order AS next_model
    FROM
    (
        SELECT *, row_number() OVER (PARTITION BY gateway_id, request_id, attempt ORDER BY version DESC) AS place
        FROM usage_facts
    )
    WHERE place = 1
    WINDOW
        request AS (PARTITION BY gateway_id, request_id),
        in_order AS (
            PARTITION BY gateway_id, request_id ORDER BY attempt
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
) AS f;

-- The truth about a policy decision: its row with the greatest version.
CREATE OR REPLACE VIEW decisions AS
SELECT * EXCEPT (place)
FROM
(
    SELECT *, row_number() OVER (PARTITION BY gateway_id, decision_id ORDER BY version DESC) AS place
    FROM policy_facts
)
WHERE place = 1;

-- What is charged, line by line: every attempt and every decision once. The basis of all chargeback views.
CREATE OR REPLACE VIEW charge_lines AS
SELECT
    'usage' AS kind,
    usage_hour, posted_hour, gateway_id, request_id, attempt, tenant_id, app_id, workload_id, cost_centre,
    business_unit, organisation, evidence_grade, attribution, provider, model, served_model, purpose, status,
    attempt_role, usage_source, latency_us, latency_class,
    '' AS policy_id, '' AS policy_version, '' AS outcome,
    input_text_uncached, input_text_cache_read, input_text_cache_write_5m, input_text_cache_write_1h,
    input_audio_uncached, input_audio_cache_read, input_image_uncached, input_image_cache_read, output_text_visible,
    output_text_reasoning, output_audio_visible, output_image_visible,
    input_tokens, output_tokens, images, media_ms, searches, tool_calls,
    price_status, currency, plan_id, list_cost, provider_cost, token_cost, model_cost, policy_cost, markup,
    charge, absorbed, absorbed_to, retry_cost
FROM attempts
UNION ALL
SELECT
    'decision' AS kind,
    usage_hour, posted_hour, gateway_id, request_id, attempt, tenant_id, app_id, workload_id, cost_centre,
    business_unit, organisation, evidence_grade, attribution,
    '' AS provider, '' AS model, '' AS served_model, 'policy_evaluation' AS purpose, '' AS status,
    '' AS attempt_role, '' AS usage_source, latency_us, '' AS latency_class,
    policy_id, policy_version, outcome,
    NULL AS input_text_uncached, NULL AS input_text_cache_read,
    NULL AS input_text_cache_write_5m, NULL AS input_text_cache_write_1h,
    NULL AS input_audio_uncached, NULL AS input_audio_cache_read,
    NULL AS input_image_uncached, NULL AS input_image_cache_read,
    NULL AS output_text_visible, NULL AS output_text_reasoning,
    NULL AS output_audio_visible, NULL AS output_image_visible,
    0 AS input_tokens, 0 AS output_tokens, NULL AS images, NULL AS media_ms, NULL AS searches, NULL AS tool_calls,
    price_status, currency, plan_id, policy_cost AS list_cost, policy_cost AS provider_cost,
    policy_cost - policy_cost AS token_cost, policy_cost - policy_cost AS model_cost, policy_cost, markup,
    charge, absorbed, absorbed_to, charge - charge AS retry_cost
FROM decisions;

-- Chargeback by the period in which usage began (UTC). A request that used two models counts in the rows of both:
-- across rows, count requests from `charge_lines`. `retry_cost` and `late_charge` (posted after its own hour) are parts
-- of `charge`; `estimated_tokens` and `unpriced_tokens` are parts of the tokens.
-- By the hour.
CREATE OR REPLACE VIEW chargeback_hourly AS
SELECT
    usage_hour AS hour,
    tenant_id, app_id, workload_id, cost_centre, provider, model, purpose, currency,
    uniqExactIf((gateway_id, request_id), kind = 'usage') AS requests,
    countIf(kind = 'usage' AND status != 'denied') AS attempts,
    countIf(attempt_role NOT IN ('', 'answered') AND status != 'denied') AS attempts_not_answering,
    countIf(kind = 'decision') AS policy_decisions,
    sum(l.input_tokens) AS input_tokens,
    sum(l.output_tokens) AS output_tokens,
    sumIf(l.input_tokens, attempt_role = 'answered') AS answered_input_tokens,
    sumIf(l.output_tokens, attempt_role = 'answered') AS answered_output_tokens,
    sum(ifNull(l.input_text_uncached, 0)) AS input_text_uncached,
    sum(ifNull(l.input_text_cache_read, 0)) AS input_text_cache_read,
    sum(ifNull(l.input_text_cache_write_5m, 0)) AS input_text_cache_write_5m,
    sum(ifNull(l.input_text_cache_write_1h, 0)) AS input_text_cache_write_1h,
    sum(ifNull(l.input_audio_uncached, 0)) AS input_audio_uncached,
    sum(ifNull(l.input_audio_cache_read, 0)) AS input_audio_cache_read,
    sum(ifNull(l.input_image_uncached, 0)) AS input_image_uncached,
    sum(ifNull(l.input_image_cache_read, 0)) AS input_image_cache_read,
    sum(ifNull(l.output_text_visible, 0)) AS output_text_visible,
    sum(ifNull(l.output_text_reasoning, 0)) AS output_text_reasoning,
    sum(ifNull(l.output_audio_visible, 0)) AS output_audio_visible,
    sum(ifNull(l.output_image_visible, 0)) AS output_image_visible,
    sum(ifNull(l.images, 0)) AS images,
    sum(ifNull(l.media_ms, 0)) AS media_ms,
    sum(ifNull(l.searches, 0)) AS searches,
    sum(ifNull(l.tool_calls, 0)) AS tool_calls,
    sumIf(l.input_tokens + l.output_tokens, usage_source = 'estimated') AS estimated_tokens,
    sumIf(l.input_tokens + l.output_tokens, price_status = 'unpriced') AS unpriced_tokens,
    countIf(kind = 'usage' AND price_status = 'unpriced') AS unpriced_attempts,
    countIf(kind = 'usage' AND price_status = 'no_usage') AS attempts_without_usage,
    countIf(kind = 'decision' AND price_status = 'unpriced') AS unpriced_decisions,
    sum(l.list_cost) AS list_cost,
    sum(l.provider_cost) AS provider_cost,
    sum(l.token_cost) AS token_cost,
    sum(l.model_cost) AS model_cost,
    sum(l.policy_cost) AS policy_cost,
    sum(l.markup) AS markup,
    sum(l.charge) AS charge,
    sum(l.absorbed) AS absorbed,
    sum(l.retry_cost) AS retry_cost,
    sumIf(l.charge, posted_hour > usage_hour) AS late_charge
FROM charge_lines AS l
GROUP BY hour, tenant_id, app_id, workload_id, cost_centre, provider, model, purpose, currency;

-- By the day.
CREATE OR REPLACE VIEW chargeback_daily AS
SELECT
    toDate(usage_hour, 'UTC') AS day,
    tenant_id, app_id, workload_id, cost_centre, provider, model, purpose, currency,
    uniqExactIf((gateway_id, request_id), kind = 'usage') AS requests,
    countIf(kind = 'usage' AND status != 'denied') AS attempts,
    countIf(attempt_role NOT IN ('', 'answered') AND status != 'denied') AS attempts_not_answering,
    countIf(kind = 'decision') AS policy_decisions,
    sum(l.input_tokens) AS input_tokens,
    sum(l.output_tokens) AS output_tokens,
    sumIf(l.input_tokens, attempt_role = 'answered') AS answered_input_tokens,
    sumIf(l.output_tokens, attempt_role = 'answered') AS answered_output_tokens,
    sum(ifNull(l.input_text_uncached, 0)) AS input_text_uncached,
    sum(ifNull(l.input_text_cache_read, 0)) AS input_text_cache_read,
    sum(ifNull(l.input_text_cache_write_5m, 0)) AS input_text_cache_write_5m,
    sum(ifNull(l.input_text_cache_write_1h, 0)) AS input_text_cache_write_1h,
    sum(ifNull(l.input_audio_uncached, 0)) AS input_audio_uncached,
    sum(ifNull(l.input_audio_cache_read, 0)) AS input_audio_cache_read,
    sum(ifNull(l.input_image_uncached, 0)) AS input_image_uncached,
    sum(ifNull(l.input_image_cache_read, 0)) AS input_image_cache_read,
    sum(ifNull(l.output_text_visible, 0)) AS output_text_visible,
    sum(ifNull(l.output_text_reasoning, 0)) AS output_text_reasoning,
    sum(ifNull(l.output_audio_visible, 0)) AS output_audio_visible,
    sum(ifNull(l.output_image_visible, 0)) AS output_image_visible,
    sum(ifNull(l.images, 0)) AS images,
    sum(ifNull(l.media_ms, 0)) AS media_ms,
    sum(ifNull(l.searches, 0)) AS searches,
    sum(ifNull(l.tool_calls, 0)) AS tool_calls,
    sumIf(l.input_tokens + l.output_tokens, usage_source = 'estimated') AS estimated_tokens,
    sumIf(l.input_tokens + l.output_tokens, price_status = 'unpriced') AS unpriced_tokens,
    countIf(kind = 'usage' AND price_status = 'unpriced') AS unpriced_attempts,
    countIf(kind = 'usage' AND price_status = 'no_usage') AS attempts_without_usage,
    countIf(kind = 'decision' AND price_status = 'unpriced') AS unpriced_decisions,
    sum(l.list_cost) AS list_cost,
    sum(l.provider_cost) AS provider_cost,
    sum(l.token_cost) AS token_cost,
    sum(l.model_cost) AS model_cost,
    sum(l.policy_cost) AS policy_cost,
    sum(l.markup) AS markup,
    sum(l.charge) AS charge,
    sum(l.absorbed) AS absorbed,
    sum(l.retry_cost) AS retry_cost,
    sumIf(l.charge, posted_hour > usage_hour) AS late_charge
FROM charge_lines AS l
GROUP BY day, tenant_id, app_id, workload_id, cost_centre, provider, model, purpose, currency;

-- By the month; `month` is its first day.
CREATE OR REPLACE VIEW chargeback_monthly AS
SELECT
    toStartOfMonth(toDate(usage_hour, 'UTC')) AS month,
    tenant_id, app_id, workload_id, cost_centre, provider, model, purpose, currency,
    uniqExactIf((gateway_id, request_id), kind = 'usage') AS requests,
    countIf(kind = 'usage' AND status != 'denied') AS attempts,
    countIf(attempt_role NOT IN ('', 'answered') AND status != 'denied') AS attempts_not_answering,
    countIf(kind = 'decision') AS policy_decisions,
    sum(l.input_tokens) AS input_tokens,
    sum(l.output_tokens) AS output_tokens,
    sumIf(l.input_tokens, attempt_role = 'answered') AS answered_input_tokens,
    sumIf(l.output_tokens, attempt_role = 'answered') AS answered_output_tokens,
    sum(ifNull(l.input_text_uncached, 0)) AS input_text_uncached,
    sum(ifNull(l.input_text_cache_read, 0)) AS input_text_cache_read,
    sum(ifNull(l.input_text_cache_write_5m, 0)) AS input_text_cache_write_5m,
    sum(ifNull(l.input_text_cache_write_1h, 0)) AS input_text_cache_write_1h,
    sum(ifNull(l.input_audio_uncached, 0)) AS input_audio_uncached,
    sum(ifNull(l.input_audio_cache_read, 0)) AS input_audio_cache_read,
    sum(ifNull(l.input_image_uncached, 0)) AS input_image_uncached,
    sum(ifNull(l.input_image_cache_read, 0)) AS input_image_cache_read,
    sum(ifNull(l.output_text_visible, 0)) AS output_text_visible,
    sum(ifNull(l.output_text_reasoning, 0)) AS output_text_reasoning,
    sum(ifNull(l.output_audio_visible, 0)) AS output_audio_visible,
    sum(ifNull(l.output_image_visible, 0)) AS output_image_visible,
    sum(ifNull(l.images, 0)) AS images,
    sum(ifNull(l.media_ms, 0)) AS media_ms,
    sum(ifNull(l.searches, 0)) AS searches,
    sum(ifNull(l.tool_calls, 0)) AS tool_calls,
    sumIf(l.input_tokens + l.output_tokens, usage_source = 'estimated') AS estimated_tokens,
    sumIf(l.input_tokens + l.output_tokens, price_status = 'unpriced') AS unpriced_tokens,
    countIf(kind = 'usage' AND price_status = 'unpriced') AS unpriced_attempts,
    countIf(kind = 'usage' AND price_status = 'no_usage') AS attempts_without_usage,
    countIf(kind = 'decision' AND price_status = 'unpriced') AS unpriced_decisions,
    sum(l.list_cost) AS list_cost,
    sum(l.provider_cost) AS provider_cost,
    sum(l.token_cost) AS token_cost,
    sum(l.model_cost) AS model_cost,
    sum(l.policy_cost) AS policy_cost,
    sum(l.markup) AS markup,
    sum(l.charge) AS charge,
    sum(l.absorbed) AS absorbed,
    sum(l.retry_cost) AS retry_cost,
    sumIf(l.charge, posted_hour > usage_hour) AS late_charge
FROM charge_lines AS l
GROUP BY month, tenant_id, app_id, workload_id, cost_centre, provider, model, purpose, currency;

-- A request with its attempts, their roles, and the policies that judged it. Amounts are NULL where it used two
-- currencies (`currencies` names them): read its lines instead.
CREATE OR REPLACE VIEW request_history AS
WITH length(currencies) < 2 AS one_currency
SELECT
    gateway_id,
    request_id,
    min(request_at) AS request_hour,
    any(l.tenant_id) AS tenant_id,
    any(l.app_id) AS app_id,
    any(l.workload_id) AS workload_id,
    countIf(kind = 'usage') AS attempts,
    countIf(attempt_role IN ('retried', 'fallback')) AS retries,
    anyIf(l.attempt, attempt_role = 'answered') AS answered_by_attempt,
    anyIf(l.provider, attempt_role = 'answered') AS answered_by_provider,
    anyIf(l.model, attempt_role = 'answered') AS answered_by_model,
    arraySort(x -> x.1, groupArrayIf(
        CAST((l.attempt, attempt_role, provider, model, status, latency_us, l.charge, currency),
            'Tuple(attempt UInt16, role String, provider String, model String, status String,
                   latency_us Nullable(Int64), charge Nullable(Decimal(38, 12)), currency String)'),
        kind = 'usage')) AS attempt_list,
    arraySort(groupArrayIf(
        CAST((policy_id, policy_version, outcome, l.policy_cost),
            'Tuple(policy_id String, policy_version String, outcome String, cost Nullable(Decimal(38, 12)))'),
        kind = 'decision')) AS policies,
    has(groupArrayIf(outcome, kind = 'decision'), 'deny') AS denied,
    sum(l.input_tokens) AS input_tokens,
    sum(l.output_tokens) AS output_tokens,
    countIf(price_status = 'unpriced') AS unpriced_lines,
    arraySort(groupUniqArrayIf(currency, currency != '')) AS currencies,
    if(one_currency, sum(l.provider_cost), NULL) AS provider_cost,
    if(one_currency, sum(l.policy_cost), NULL) AS policy_cost,
    if(one_currency, sum(l.charge), NULL) AS charge,
    if(one_currency, sum(l.retry_cost), NULL) AS retry_cost
FROM (SELECT *, usage_hour AS request_at FROM charge_lines) AS l
GROUP BY gateway_id, request_id;
