-- Views for people. Money is only added within one currency, decisions are added to usage by UNION ALL, never by a join.
-- Amounts are Decimal(38, 12); NULL means that nothing in the group had a price: look at the unpriced columns beside it.

-- Views that end in `_as_of` take a parameter: what could be known when the hour `through` was sealed. Seals and audits
-- ask for an hour, live views for the last one of all (2299-12-31 23:00:00); both read the same text, so they agree.

-- Replacements in force: of the committed corrections of a row the last one. Those that no seal holds yet do not count.
CREATE OR REPLACE VIEW replacements_as_of AS
SELECT * EXCEPT place
FROM
(
    SELECT
        c.*,
        m.posted_hour AS committed_hour,
        row_number() OVER (
            PARTITION BY target, gateway_id, request_id, attempt, response_hash
            ORDER BY m.posted_hour DESC, length(m.topic) DESC, m.topic DESC, m.offset DESC, c.run_id DESC, c.entry DESC
        ) AS place
    FROM (SELECT * FROM corrections WHERE kind = 'replace') AS c
    INNER JOIN
    (
        SELECT run_id, posted_hour, topic, offset
        FROM commits FINAL
        WHERE posted_hour <= if(
            {through:DateTime64(6, 'UTC')} < toDateTime64('2299-12-31 23:00:00', 6, 'UTC'),
            {through:DateTime64(6, 'UTC')},
            (SELECT max(posted_hour) FROM seals))
    ) AS m ON c.run_id = m.run_id
)
WHERE place = 1;

-- The truth about an attempt: its row with the greatest version over all posted hours, with its role in the request,
-- and with the amounts and the attribution of the correction in force on that row.
-- `charge` and `absorbed` are after the retry rule (`final_only` charges the answering attempt alone), the `fact_`
-- columns before it; `retry_cost` is the part of `charge` that attempts cost which did not answer: an "of which".
CREATE OR REPLACE VIEW attempts_as_of AS
WITH
    if(last_delivered > 0, last_delivered, last_ok) AS answering_attempt,
    multiIf(
        status = 'in_progress', '',  -- a batch job: nobody knows yet
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
    if(absorbs AND f.absorbed_to = '' AND f.charge != 0, f.retry_cost_centre, f.absorbed_to) AS absorbed_to,
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
        SELECT
            t.* REPLACE (
                ifNull(r.tenant_id, t.tenant_id) AS tenant_id,
                ifNull(r.app_id, t.app_id) AS app_id,
                ifNull(r.workload_id, t.workload_id) AS workload_id,
                ifNull(r.cost_centre, t.cost_centre) AS cost_centre,
                ifNull(r.business_unit, t.business_unit) AS business_unit,
                ifNull(r.organisation, t.organisation) AS organisation,
                if(r.plan_id IN ('', 'unattributed'), t.attribution, 'attributed') AS attribution,
                if(r.retry_rule != '', r.retry_rule, t.retry_rule) AS retry_rule,
                if(r.run_id != '', r.currency, t.currency) AS currency,
                if(r.run_id != '', r.rate_card_id, t.rate_card_id) AS rate_card_id,
                if(r.run_id != '', r.plan_id, t.plan_id) AS plan_id,
                if(r.run_id != '', r.price_status, t.price_status) AS price_status,
                if(r.run_id != '', r.list_cost, t.list_cost) AS list_cost,
                if(r.run_id != '', r.provider_cost, t.provider_cost) AS provider_cost,
                if(r.run_id != '', r.token_cost, t.token_cost) AS token_cost,
                if(r.run_id != '', r.model_cost, t.model_cost) AS model_cost,
                if(r.run_id != '', r.policy_cost, t.policy_cost) AS policy_cost,
                if(r.run_id != '', r.markup, t.markup) AS markup,
                if(r.run_id != '', r.cache_price, t.cache_price) AS cache_price,
                if(r.run_id != '', r.charge, t.charge) AS charge,
                if(r.run_id != '', r.avoided_provider_cost, t.avoided_provider_cost) AS avoided_provider_cost,
                if(r.run_id != '', r.avoided_charge, t.avoided_charge) AS avoided_charge,
                if(r.run_id != '', r.absorbed, t.absorbed) AS absorbed,
                if(r.run_id != '', r.absorbed_to, t.absorbed_to) AS absorbed_to),
            r.run_id AS correction_run,
            r.cause AS correction_cause,
            r.reason AS correction_reason,
            r.committed_hour AS correction_hour
        FROM
        (
            SELECT
                *,
                row_number() OVER (
                    PARTITION BY gateway_id, request_id, attempt ORDER BY version DESC, response_hash DESC) AS place
            FROM usage_facts
            WHERE posted_hour <= {through:DateTime64(6, 'UTC')}
        ) AS t
        LEFT JOIN
        (
            SELECT * FROM replacements_as_of(through = {through:DateTime64(6, 'UTC')}) WHERE target = 'usage'
        ) AS r
        ON t.gateway_id = r.gateway_id AND t.request_id = r.request_id AND t.attempt = r.attempt
            AND t.response_hash = r.response_hash
        WHERE t.place = 1
    )
    WINDOW
        request AS (PARTITION BY gateway_id, request_id),
        in_order AS (
            PARTITION BY gateway_id, request_id ORDER BY attempt
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
) AS f
SETTINGS join_use_nulls = 0;

CREATE OR REPLACE VIEW attempts AS SELECT * FROM attempts_as_of(through = '2299-12-31 23:00:00');

-- The truth about a policy decision: its row with the greatest version, with the correction in force on it.
CREATE OR REPLACE VIEW decisions_as_of AS
SELECT
    t.* EXCEPT place REPLACE (
        ifNull(r.tenant_id, t.tenant_id) AS tenant_id,
        ifNull(r.app_id, t.app_id) AS app_id,
        ifNull(r.workload_id, t.workload_id) AS workload_id,
        ifNull(r.cost_centre, t.cost_centre) AS cost_centre,
        ifNull(r.business_unit, t.business_unit) AS business_unit,
        ifNull(r.organisation, t.organisation) AS organisation,
        if(r.plan_id IN ('', 'unattributed'), t.attribution, 'attributed') AS attribution,
        if(r.run_id != '', r.currency, t.currency) AS currency,
        if(r.run_id != '', r.plan_id, t.plan_id) AS plan_id,
        if(r.run_id != '', r.price_status, t.price_status) AS price_status,
        if(r.run_id != '', r.list_cost, t.list_cost) AS list_cost,
        if(r.run_id != '', r.provider_cost, t.provider_cost) AS provider_cost,
        if(r.run_id != '', r.policy_cost, t.policy_cost) AS policy_cost,
        if(r.run_id != '', r.markup, t.markup) AS markup,
        if(r.run_id != '', r.charge, t.charge) AS charge,
        if(r.run_id != '', r.absorbed, t.absorbed) AS absorbed,
        if(r.run_id != '', r.absorbed_to, t.absorbed_to) AS absorbed_to),
    if(r.run_id != '', r.rate_card_id, t.prices_id) AS rate_card_id,
    if(r.run_id != '', r.token_cost, t.policy_cost - t.policy_cost) AS token_cost,
    if(r.run_id != '', r.model_cost, t.policy_cost - t.policy_cost) AS model_cost,
    if(r.run_id != '', r.cache_price, t.policy_cost - t.policy_cost) AS cache_price,
    r.run_id AS correction_run,
    r.cause AS correction_cause,
    r.reason AS correction_reason,
    r.committed_hour AS correction_hour
FROM
(
    SELECT
        *,
        row_number() OVER (PARTITION BY gateway_id, decision_id ORDER BY version DESC, content_hash DESC) AS place
    FROM policy_facts
    WHERE posted_hour <= {through:DateTime64(6, 'UTC')}
) AS t
LEFT JOIN
(
    SELECT * FROM replacements_as_of(through = {through:DateTime64(6, 'UTC')}) WHERE target = 'decision'
) AS r
ON t.gateway_id = r.gateway_id AND t.decision_id = r.request_id AND t.content_hash = r.response_hash
WHERE t.place = 1
SETTINGS join_use_nulls = 0;

CREATE OR REPLACE VIEW decisions AS SELECT * FROM decisions_as_of(through = '2299-12-31 23:00:00');

-- What is charged, line by line, from facts: every attempt once. `internal_policy_cost` is the part of `policy_cost` that
-- no provider bills, so that in every line
--     charge - provider_cost = markup + internal_policy_cost + cache_price - absorbed.
-- `avoided_provider_cost` and `avoided_charge`: what a hit of the gateway's cache would have cost; they are in no total.
CREATE OR REPLACE VIEW usage_lines_as_of AS
SELECT
    'usage' AS kind,
    usage_hour, posted_hour, gateway_id, request_id, '' AS decision_id, attempt, response_hash,
    tenant_id, app_id, workload_id, cost_centre, business_unit, organisation, evidence_grade, attribution,
    provider, model, served_model, purpose, status, attempt_role, usage_source, usage_consistency,
    gateway_cache, latency_us, latency_class, '' AS policy_id, '' AS policy_version, '' AS outcome,
    input_text_uncached, input_text_cache_read, input_text_cache_write_5m, input_text_cache_write_1h,
    input_audio_uncached, input_audio_cache_read, input_image_uncached, input_image_cache_read, output_text_visible,
    output_text_reasoning, output_audio_visible, output_image_visible,
    toInt64(input_tokens) AS input_tokens, toInt64(output_tokens) AS output_tokens,
    avoided_input_tokens, avoided_output_tokens,
    images, media_ms, searches, tool_calls,
    price_status, currency, rate_card_id, plan_id,
    list_cost, provider_cost, token_cost, model_cost, policy_cost,
    token_cost + model_cost + policy_cost - provider_cost AS internal_policy_cost, markup, cache_price, charge,
    avoided_provider_cost, avoided_charge, absorbed, absorbed_to, retry_cost,
    correction_run, correction_cause, correction_reason, correction_hour
FROM attempts_as_of(through = {through:DateTime64(6, 'UTC')});

-- And every decision once. What a provider bills (Bedrock Guardrails) has its name, so that its invoice can be reconciled.
CREATE OR REPLACE VIEW decision_lines_as_of AS
SELECT
    'decision' AS kind,
    usage_hour, posted_hour, gateway_id, request_id, decision_id, attempt, content_hash AS response_hash,
    tenant_id, app_id, workload_id, cost_centre, business_unit, organisation, evidence_grade, attribution,
    if(billed_by = 'internal', '', billed_by) AS provider, '' AS model, '' AS served_model,
    'policy_evaluation' AS purpose, '' AS status,
    '' AS attempt_role, '' AS usage_source, '' AS usage_consistency, '' AS gateway_cache, latency_us,
    '' AS latency_class,
    policy_id, policy_version, outcome,
    NULL::Nullable(Int64) AS input_text_uncached, NULL::Nullable(Int64) AS input_text_cache_read,
    NULL::Nullable(Int64) AS input_text_cache_write_5m, NULL::Nullable(Int64) AS input_text_cache_write_1h,
    NULL::Nullable(Int64) AS input_audio_uncached, NULL::Nullable(Int64) AS input_audio_cache_read,
    NULL::Nullable(Int64) AS input_image_uncached, NULL::Nullable(Int64) AS input_image_cache_read,
    NULL::Nullable(Int64) AS output_text_visible, NULL::Nullable(Int64) AS output_text_reasoning,
    NULL::Nullable(Int64) AS output_audio_visible, NULL::Nullable(Int64) AS output_image_visible,
    toInt64(0) AS input_tokens, toInt64(0) AS output_tokens,
    NULL::Nullable(Int64) AS avoided_input_tokens, NULL::Nullable(Int64) AS avoided_output_tokens,
    NULL::Nullable(Int64) AS images, NULL::Nullable(Int64) AS media_ms,
    NULL::Nullable(Int64) AS searches, NULL::Nullable(Int64) AS tool_calls,
    price_status, currency, rate_card_id, plan_id,
    list_cost, provider_cost, token_cost, model_cost, policy_cost,
    token_cost + model_cost + policy_cost - provider_cost AS internal_policy_cost, markup, cache_price, charge,
    NULL::Nullable(Decimal(38, 12)) AS avoided_provider_cost, NULL::Nullable(Decimal(38, 12)) AS avoided_charge,
    absorbed, absorbed_to, charge - charge AS retry_cost,
    correction_run, correction_cause, correction_reason, correction_hour
FROM decisions_as_of(through = {through:DateTime64(6, 'UTC')});

-- The ledger: what canonical seals hold, each entry once. Reversals and replacements are entries like any other.
CREATE OR REPLACE VIEW ledger_entries AS
SELECT * FROM ledger FINAL
WHERE seal_id IN (SELECT seal_id FROM seals) AND posted_hour <= (SELECT max(posted_hour) FROM seals);

-- What the ledger holds of each attempt and decision: entries that nothing has taken back, and free corrections.
CREATE OR REPLACE VIEW sealed_lines_as_of AS
SELECT * FROM ledger_entries
WHERE posted_hour <= {through:DateTime64(6, 'UTC')}
    AND reverses = ''
    AND (seal_id, entry) NOT IN
    (
        SELECT splitByChar(':', reverses)[1], toInt64(splitByChar(':', reverses)[2])
        FROM ledger_entries
        WHERE posted_hour <= {through:DateTime64(6, 'UTC')} AND reverses != ''
    );

-- Requests and decisions with a row in an hour that is not sealed yet that can have a line of a tenant with a usage hour
-- from `first_hour` to `last_hour`: one of their rows says so, or a correction. Who bears them, only the whole request says.
CREATE OR REPLACE VIEW unsealed_of AS
WITH
    (SELECT max(posted_hour) FROM seals) AS sealed_hour,
    sealed_hour = toDateTime64(0, 6, 'UTC') AS nothing_sealed
SELECT 'usage' AS kind, gateway_id, id
FROM
(
    SELECT gateway_id, request_id AS id
    FROM usage_facts
    PREWHERE tenant_id = {tenant:String}
    WHERE usage_hour >= {first_hour:DateTime64(6, 'UTC')} AND usage_hour <= {last_hour:DateTime64(6, 'UTC')}
    UNION ALL
    SELECT gateway_id, request_id AS id FROM corrections WHERE target = 'usage' AND tenant_id = {tenant:String}
)
WHERE nothing_sealed OR (gateway_id, id) IN
(
    SELECT gateway_id, request_id FROM usage_facts WHERE NOT nothing_sealed AND posted_hour > sealed_hour
)
UNION ALL
SELECT 'decision' AS kind, gateway_id, id
FROM
(
    SELECT gateway_id, decision_id AS id
    FROM policy_facts
    PREWHERE tenant_id = {tenant:String}
    WHERE usage_hour >= {first_hour:DateTime64(6, 'UTC')} AND usage_hour <= {last_hour:DateTime64(6, 'UTC')}
    UNION ALL
    SELECT gateway_id, request_id AS id FROM corrections WHERE target = 'decision' AND tenant_id = {tenant:String}
)
WHERE nothing_sealed OR (gateway_id, id) IN
(
    SELECT gateway_id, decision_id FROM policy_facts WHERE NOT nothing_sealed AND posted_hour > sealed_hour
);

-- What is charged, line by line: every attempt, every decision and every free correction once. The basis of all
-- chargeback views. Requests with a row in an hour that is not sealed yet are read from the facts, all others from the
-- ledger. `posting_period`: the month in which it was booked, `seal_id`: the seal that holds it; '' while it is not sealed.
-- `charge_lines_of` reads those of one tenant ('': of all) with usage hours from `first_hour` to `last_hour`.
CREATE OR REPLACE VIEW charge_lines_of AS
WITH
    (SELECT max(posted_hour) FROM seals) AS sealed_hour,
    sealed_hour = toDateTime64(0, 6, 'UTC') AS nothing_sealed,
    {tenant:String} = '' AS of_all
SELECT * EXCEPT (correction_run, correction_cause, correction_reason, correction_hour), '' AS posting_period, '' AS seal_id
FROM usage_lines_as_of(through = '2299-12-31 23:00:00')
WHERE usage_hour >= {first_hour:DateTime64(6, 'UTC')} AND usage_hour <= {last_hour:DateTime64(6, 'UTC')}
    AND (of_all OR tenant_id = {tenant:String})
    AND (of_all OR (gateway_id, request_id) IN
    (
        SELECT gateway_id, id
        FROM unsealed_of(
            tenant = {tenant:String},
            first_hour = {first_hour:DateTime64(6, 'UTC')}, last_hour = {last_hour:DateTime64(6, 'UTC')})
        WHERE kind = 'usage' AND NOT of_all
    ))
    AND (NOT of_all OR nothing_sealed OR (gateway_id, request_id) IN
    (
        SELECT gateway_id, request_id FROM usage_facts WHERE NOT nothing_sealed AND posted_hour > sealed_hour
    ))
UNION ALL
SELECT * EXCEPT (correction_run, correction_cause, correction_reason, correction_hour), '' AS posting_period, '' AS seal_id
FROM decision_lines_as_of(through = '2299-12-31 23:00:00')
WHERE usage_hour >= {first_hour:DateTime64(6, 'UTC')} AND usage_hour <= {last_hour:DateTime64(6, 'UTC')}
    AND (of_all OR tenant_id = {tenant:String})
    AND (of_all OR (gateway_id, decision_id) IN
    (
        SELECT gateway_id, id
        FROM unsealed_of(
            tenant = {tenant:String},
            first_hour = {first_hour:DateTime64(6, 'UTC')}, last_hour = {last_hour:DateTime64(6, 'UTC')})
        WHERE kind = 'decision' AND NOT of_all
    ))
    AND (NOT of_all OR nothing_sealed OR (gateway_id, decision_id) IN
    (
        SELECT gateway_id, decision_id FROM policy_facts WHERE NOT nothing_sealed AND posted_hour > sealed_hour
    ))
UNION ALL
SELECT
    kind,
    usage_hour, posted_hour, gateway_id, request_id, decision_id, attempt, response_hash,
    tenant_id, app_id, workload_id, cost_centre, business_unit, organisation, evidence_grade, attribution,
    provider, model, served_model, purpose, status, attempt_role, usage_source, usage_consistency,
    gateway_cache, latency_us, latency_class, policy_id, policy_version, outcome,
    input_text_uncached, input_text_cache_read, input_text_cache_write_5m, input_text_cache_write_1h,
    input_audio_uncached, input_audio_cache_read, input_image_uncached, input_image_cache_read, output_text_visible,
    output_text_reasoning, output_audio_visible, output_image_visible, input_tokens, output_tokens,
    avoided_input_tokens, avoided_output_tokens, images, media_ms, searches, tool_calls,
    price_status, currency, rate_card_id, plan_id,
    list_cost, provider_cost, token_cost, model_cost, policy_cost,
    token_cost + model_cost + policy_cost - provider_cost AS internal_policy_cost, markup, cache_price, charge,
    avoided_provider_cost, avoided_charge, absorbed, absorbed_to, retry_cost,
    posting_period, seal_id
FROM sealed_lines_as_of(through = '2299-12-31 23:00:00')
WHERE posted_hour <= sealed_hour
    AND usage_hour >= {first_hour:DateTime64(6, 'UTC')} AND usage_hour <= {last_hour:DateTime64(6, 'UTC')}
    AND (of_all OR tenant_id = {tenant:String})
    AND NOT (kind = 'usage' AND (gateway_id, request_id) IN
    (
        SELECT gateway_id, request_id FROM usage_facts WHERE NOT nothing_sealed AND posted_hour > sealed_hour
    ))
    AND NOT (kind = 'decision' AND (gateway_id, decision_id) IN
    (
        SELECT gateway_id, decision_id FROM policy_facts WHERE NOT nothing_sealed AND posted_hour > sealed_hour
    ));

CREATE OR REPLACE VIEW charge_lines AS
SELECT * FROM charge_lines_of(tenant = '', first_hour = '1900-01-01 00:00:00', last_hour = '2299-12-31 23:00:00');

-- What was booked in each month and why: all entries of the ledger, so that a month that was closed never changes.
CREATE OR REPLACE VIEW postings AS
SELECT
    posting_period, usage_period, cause, tenant_id, app_id, workload_id, cost_centre, provider, model, purpose, currency,
    countIf(reverses = '') AS entries,
    countIf(reverses != '') AS reversals,
    sum(l.input_tokens) AS input_tokens,
    sum(l.output_tokens) AS output_tokens,
    sum(l.list_cost) AS list_cost,
    sum(l.provider_cost) AS provider_cost,
    sum(l.token_cost) AS token_cost,
    sum(l.model_cost) AS model_cost,
    sum(l.policy_cost) AS policy_cost,
    sum(l.token_cost + l.model_cost + l.policy_cost - l.provider_cost) AS internal_policy_cost,
    sum(l.markup) AS markup,
    sum(l.cache_price) AS cache_price,
    sum(l.charge) AS charge,
    sum(l.absorbed) AS absorbed,
    sum(l.retry_cost) AS retry_cost,
    sumIf(l.input_tokens + l.output_tokens, usage_source = 'estimated') AS estimated_tokens,
    sum(if(usage_source = 'estimated', l.charge, l.charge - l.charge)) AS estimated_charge,
    min(posted_hour) AS first_posted_hour,
    max(posted_hour) AS last_posted_hour
FROM ledger_entries AS l
GROUP BY
    posting_period, usage_period, cause, tenant_id, app_id, workload_id, cost_centre, provider, model, purpose, currency;

-- Chargeback by the period in which usage began (UTC). A request that used two models counts in the rows of both:
-- across rows, count requests from `charge_lines`. `retry_cost`, `late_charge` (posted after its own hour) and
-- `estimated_charge` are parts of `charge`, `estimated_provider_cost` of `provider_cost`; `estimated_tokens` and `unpriced_tokens` are parts of the tokens.
-- `inconsistent_attempts`: their buckets do not add up to the provider's own total; they are priced as the buckets say.
-- By the hour.
CREATE OR REPLACE VIEW chargeback_hourly AS
SELECT
    usage_hour AS hour,
    tenant_id, app_id, workload_id, cost_centre, provider, model, purpose, currency,
    uniqExactIf((gateway_id, request_id), kind = 'usage') AS requests,
    countIf(kind = 'usage' AND status != 'denied') AS attempts,
    countIf(attempt_role NOT IN ('', 'answered') AND status != 'denied') AS attempts_not_answering,
    countIf(kind = 'decision') AS policy_decisions,
    countIf(l.gateway_cache IN ('exact', 'semantic')) AS cache_hits,
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
    countIf(usage_consistency = 'mismatch') AS inconsistent_attempts,
    countIf(kind = 'decision' AND price_status = 'unpriced') AS unpriced_decisions,
    sum(l.list_cost) AS list_cost,
    sum(l.provider_cost) AS provider_cost,
    sum(l.token_cost) AS token_cost,
    sum(l.model_cost) AS model_cost,
    sum(l.policy_cost) AS policy_cost,
    sum(l.internal_policy_cost) AS internal_policy_cost,
    sum(l.markup) AS markup,
    sum(l.cache_price) AS cache_price,
    sum(l.charge) AS charge,
    sum(l.absorbed) AS absorbed,
    sum(l.retry_cost) AS retry_cost,
    sumIf(l.charge, posted_hour > usage_hour) AS late_charge,
    sum(if(usage_source = 'estimated', l.provider_cost, l.provider_cost - l.provider_cost)) AS estimated_provider_cost,
    sum(if(usage_source = 'estimated', l.charge, l.charge - l.charge)) AS estimated_charge
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
    countIf(l.gateway_cache IN ('exact', 'semantic')) AS cache_hits,
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
    countIf(usage_consistency = 'mismatch') AS inconsistent_attempts,
    countIf(kind = 'decision' AND price_status = 'unpriced') AS unpriced_decisions,
    sum(l.list_cost) AS list_cost,
    sum(l.provider_cost) AS provider_cost,
    sum(l.token_cost) AS token_cost,
    sum(l.model_cost) AS model_cost,
    sum(l.policy_cost) AS policy_cost,
    sum(l.internal_policy_cost) AS internal_policy_cost,
    sum(l.markup) AS markup,
    sum(l.cache_price) AS cache_price,
    sum(l.charge) AS charge,
    sum(l.absorbed) AS absorbed,
    sum(l.retry_cost) AS retry_cost,
    sumIf(l.charge, posted_hour > usage_hour) AS late_charge,
    sum(if(usage_source = 'estimated', l.provider_cost, l.provider_cost - l.provider_cost)) AS estimated_provider_cost,
    sum(if(usage_source = 'estimated', l.charge, l.charge - l.charge)) AS estimated_charge
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
    countIf(l.gateway_cache IN ('exact', 'semantic')) AS cache_hits,
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
    countIf(usage_consistency = 'mismatch') AS inconsistent_attempts,
    countIf(kind = 'decision' AND price_status = 'unpriced') AS unpriced_decisions,
    sum(l.list_cost) AS list_cost,
    sum(l.provider_cost) AS provider_cost,
    sum(l.token_cost) AS token_cost,
    sum(l.model_cost) AS model_cost,
    sum(l.policy_cost) AS policy_cost,
    sum(l.internal_policy_cost) AS internal_policy_cost,
    sum(l.markup) AS markup,
    sum(l.cache_price) AS cache_price,
    sum(l.charge) AS charge,
    sum(l.absorbed) AS absorbed,
    sum(l.retry_cost) AS retry_cost,
    sumIf(l.charge, posted_hour > usage_hour) AS late_charge,
    sum(if(usage_source = 'estimated', l.provider_cost, l.provider_cost - l.provider_cost)) AS estimated_provider_cost,
    sum(if(usage_source = 'estimated', l.charge, l.charge - l.charge)) AS estimated_charge
FROM charge_lines AS l
GROUP BY month, tenant_id, app_id, workload_id, cost_centre, provider, model, purpose, currency;

-- A request with its attempts, their roles, and the policies that judged it. Amounts are NULL where it used two
-- currencies (`currencies` names them): read its lines instead. `charges` unfolds the amounts, an attempt or decision
-- each: quantities (what is not there was not reported), amounts, the price list by id and content hash with the view of
-- the metadata that it was looked up in ('' where a correction names another), the plan, and the seal ('': open hour).
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
    arraySort(x -> (x.1, x.2, x.3), groupArray(
        CAST((kind, l.attempt, decision_id, quantities, price_status, currency, l.rate_card_id, card_hash, plan_id,
                looked_up_in, l.list_cost, l.provider_cost, l.token_cost, l.model_cost, l.policy_cost, l.markup,
                l.cache_price, l.absorbed, l.absorbed_to, l.charge, posted_hour, posting_period, seal_id),
            'Tuple(kind String, attempt UInt16, decision_id String, quantities Map(String, Nullable(Int64)),
                   price_status String, currency String, rate_card_id String, rate_card_hash String, plan_id String,
                   metadata_offset Int64, list_cost Nullable(Decimal(38, 12)), provider_cost Nullable(Decimal(38, 12)),
                   token_cost Nullable(Decimal(38, 12)), model_cost Nullable(Decimal(38, 12)),
                   policy_cost Nullable(Decimal(38, 12)), markup Nullable(Decimal(38, 12)),
                   cache_price Nullable(Decimal(38, 12)), absorbed Nullable(Decimal(38, 12)), absorbed_to String, charge Nullable(Decimal(38, 12)),
                   posted_hour DateTime64(6, \'UTC\'), posting_period String, seal_id String)'))) AS charges,
    has(groupArrayIf(outcome, kind = 'decision'), 'deny') AS denied,
    sum(l.input_tokens) AS input_tokens,
    sum(l.output_tokens) AS output_tokens,
    countIf(price_status = 'unpriced') AS unpriced_lines,
    arraySort(groupUniqArrayIf(currency, currency != '')) AS currencies,
    if(one_currency, sum(l.provider_cost), NULL) AS provider_cost,
    if(one_currency, sum(l.policy_cost), NULL) AS policy_cost,
    if(one_currency, sum(l.cache_price), NULL) AS cache_price,
    if(one_currency, sum(l.avoided_charge - l.charge), NULL) AS cache_saving,
    if(one_currency, sum(l.charge), NULL) AS charge,
    if(one_currency, sum(l.retry_cost), NULL) AS retry_cost,
    if(one_currency, sum(if(usage_source = 'estimated', l.charge, l.charge - l.charge)), NULL) AS estimated_charge
FROM
(
    SELECT
        c.*,
        usage_hour AS request_at,
        f.source.3 AS looked_up_in,
        if(f.source.1 = c.rate_card_id, f.source.2, '') AS card_hash,
        mapFilter((name, quantity) -> isNotNull(quantity), map(
            'input_text_uncached', input_text_uncached, 'input_text_cache_read', input_text_cache_read,
            'input_text_cache_write_5m', input_text_cache_write_5m,
            'input_text_cache_write_1h', input_text_cache_write_1h, 'input_audio_uncached', input_audio_uncached,
            'input_audio_cache_read', input_audio_cache_read, 'input_image_uncached', input_image_uncached,
            'input_image_cache_read', input_image_cache_read, 'output_text_visible', output_text_visible,
            'output_text_reasoning', output_text_reasoning, 'output_audio_visible', output_audio_visible,
            'output_image_visible', output_image_visible, 'images', images, 'media_ms', media_ms,
            'searches', searches, 'tool_calls', tool_calls)) AS quantities
    FROM charge_lines AS c
    LEFT JOIN
    (
        SELECT 'usage' AS kind, gateway_id, request_id, '' AS decision_id, attempt, response_hash,
            argMax((toString(rate_card_id), toString(rate_card_hash), metadata_offset), version) AS source
        FROM usage_facts
        GROUP BY gateway_id, request_id, attempt, response_hash
        UNION ALL
        SELECT 'decision' AS kind, gateway_id, request_id, decision_id, attempt, content_hash AS response_hash,
            argMax((toString(prices_id), '', metadata_offset), version) AS source
        FROM policy_facts
        GROUP BY gateway_id, request_id, decision_id, attempt, content_hash
    ) AS f USING (kind, gateway_id, request_id, decision_id, attempt, response_hash)
) AS l
GROUP BY gateway_id, request_id
SETTINGS join_use_nulls = 0;
