-- Views that prove: nothing lost, nothing twice, what is missing is listed.

-- Windows against facts, a currency a row: what all fact rows say they added, superseded ones included, and what the
-- windows hold. They differ only while a flush is under way.
CREATE OR REPLACE VIEW conservation_windows AS
SELECT
    topic,
    partition,
    currency,
    sum(of_facts_tokens) AS fact_tokens,
    sum(of_windows_tokens) AS held_tokens,
    sum(of_facts_cost) AS fact_cost,
    sum(of_windows_cost) AS held_cost,
    fact_tokens = held_tokens AND fact_cost = held_cost AS ok
FROM
(
    SELECT topic, partition, currency, window_tokens AS of_facts_tokens, window_cost AS of_facts_cost,
        toInt64(0) AS of_windows_tokens, toDecimal128(0, 12) AS of_windows_cost
    FROM usage_facts FINAL
    UNION ALL
    SELECT topic, partition, currency, toInt64(0), window_cost, toInt64(0), toDecimal128(0, 12)
    FROM policy_facts FINAL
    UNION ALL
    SELECT topic, partition, currency, toInt64(0), toDecimal128(0, 12), input_tokens + output_tokens, charge
    FROM usage_windows FINAL
)
GROUP BY topic, partition, currency;

-- The running totals of a partition's newest checkpoint, and the same counted again from the tables, below the
-- checkpoint's next_offset. `problem` names the first thing that does not add up; '' where all does.
CREATE OR REPLACE VIEW conservation AS
WITH
    checkpoints AS
    (
        SELECT * FROM ingest_batches ORDER BY topic, partition, next_offset DESC LIMIT 1 BY topic, partition
    ),
    refused AS
    (
        SELECT topic, partition, countIf(event_index < 0) AS records_found, countIf(event_index >= 0) AS events_found
        FROM (SELECT topic, partition, offset, event_index FROM quarantine FINAL) AS rows_of
        INNER JOIN (SELECT topic, partition, next_offset FROM checkpoints) AS ends USING (topic, partition)
        WHERE offset < next_offset
        GROUP BY topic, partition
    ),
    conflicts AS
    (
        SELECT topic, partition, countIf(kind = 'conflict') AS conflicts_found
        FROM (SELECT topic, partition, offset, kind FROM exceptions FINAL) AS rows_of
        INNER JOIN (SELECT topic, partition, next_offset FROM checkpoints) AS ends USING (topic, partition)
        WHERE offset < next_offset
        GROUP BY topic, partition
    ),
    corroborating AS
    (
        SELECT topic, partition, count() AS evidence_found
        FROM (SELECT topic, partition, offset FROM evidence FINAL) AS rows_of
        INNER JOIN (SELECT topic, partition, next_offset FROM checkpoints) AS ends USING (topic, partition)
        WHERE offset < next_offset
        GROUP BY topic, partition
    ),
    responses AS
    (
        SELECT topic, partition, countIf(fresh) AS fresh_found, countIf(NOT fresh) AS late_found
        FROM (SELECT topic, partition, offset, fresh FROM usage_facts FINAL WHERE has_response) AS rows_of
        INNER JOIN (SELECT topic, partition, next_offset FROM checkpoints) AS ends USING (topic, partition)
        WHERE offset < next_offset
        GROUP BY topic, partition
    ),
    windows AS
    (
        SELECT topic, partition, countIf(NOT ok) AS windows_wrong FROM conservation_windows GROUP BY topic, partition
    ),
    places AS
    (
        SELECT topic, partition FROM checkpoints
        UNION DISTINCT SELECT topic, partition FROM usage_facts
        UNION DISTINCT SELECT topic, partition FROM policy_facts
        UNION DISTINCT SELECT topic, partition FROM evidence
        UNION DISTINCT SELECT topic, partition FROM quarantine
    )
SELECT
    places.topic AS topic,
    places.partition AS partition,
    c.next_offset AS next_offset,
    c.log_time AS log_time,
    c.records AS records,
    c.records_batches AS records_batches,
    c.records_operator AS records_operator,
    c.records_quarantined AS records_quarantined,
    refused.records_found AS quarantined_records_found,
    c.events_received AS events_received,
    c.events_admitted AS events_admitted,
    c.events_duplicate AS events_duplicate,
    c.events_conflict AS events_conflict,
    conflicts.conflicts_found AS conflicts_found,
    c.events_quarantined AS events_quarantined,
    refused.events_found AS quarantined_events_found,
    c.events_corroborating AS events_corroborating,
    corroborating.evidence_found AS corroborating_events_found,
    c.responses_fresh AS responses_fresh,
    responses.fresh_found AS fresh_responses_found,
    c.responses_late AS responses_late,
    responses.late_found AS late_responses_found,
    windows.windows_wrong AS window_currencies_wrong,
    multiIf(
        c.next_offset = 0, 'rows without a checkpoint',
        c.next_offset != c.records + c.records_skipped,
            'offsets without a record: next_offset differs from records and accepted gaps',
        c.records != c.records_batches + c.records_operator + c.records_quarantined,
            'records are not batches + operator + quarantined',
        c.events_received
            != c.events_admitted + c.events_duplicate + c.events_conflict + c.events_quarantined
                + c.events_corroborating,
            'events received are not admitted + duplicate + conflict + quarantined + corroborating',
        refused.records_found != c.records_quarantined, 'quarantined records: the table holds another number',
        refused.events_found != c.events_quarantined, 'quarantined events: the table holds another number',
        conflicts.conflicts_found != c.events_conflict, 'conflicts: the table of exceptions holds another number',
        corroborating.evidence_found != c.events_corroborating, 'corroborating events: evidence holds another number',
        responses.fresh_found != c.responses_fresh, 'fresh responses: usage_facts holds another number',
        responses.late_found > c.responses_late, 'late responses: usage_facts holds more than were counted',
        windows.windows_wrong > 0, 'windows differ from the facts (see conservation_windows)',
        '') AS problem,
    problem = '' AS ok
FROM places
LEFT JOIN checkpoints AS c USING (topic, partition)
LEFT JOIN refused USING (topic, partition)
LEFT JOIN conflicts USING (topic, partition)
LEFT JOIN corroborating USING (topic, partition)
LEFT JOIN responses USING (topic, partition)
LEFT JOIN windows USING (topic, partition)
SETTINGS join_use_nulls = 0;

-- Sequences received against the highest one announced, an epoch and partition a row. `missing` lists [from, to) of
-- what did not arrive. An epoch that is not closed may have held more in memory when it died: that cannot be known.
CREATE OR REPLACE VIEW completeness AS
WITH
    announced AS
    (
        SELECT
            gateway_id, epoch, topic, partition,
            max(greatest(heartbeat_sequence, next_sequence)) AS announced_sequence,
            max(emitted) AS emitted, max(dropped) AS dropped,
            argMax(spooled, (recorded_at, next_sequence)) AS spooled,
            max(closed) AS closed, max(recorded_at) AS last_heard
        FROM gateway_epochs
        WHERE gateway_id != '_tick'
        GROUP BY gateway_id, epoch, topic, partition
    ),
    edges AS
    (
        SELECT gateway_id, epoch, topic, partition, first_sequence, next_sequence
        FROM gateway_epochs
        WHERE next_sequence > first_sequence
        UNION ALL
        SELECT gateway_id, epoch, topic, partition, announced_sequence, announced_sequence FROM announced
    ),
    gaps AS
    (
        SELECT
            gateway_id, epoch, topic, partition, first_sequence,
            max(next_sequence) OVER (
                PARTITION BY gateway_id, epoch, topic, partition ORDER BY first_sequence, next_sequence
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached
        FROM edges
    )
SELECT
    gateway_id, epoch, topic, partition,
    any(announced.announced_sequence) AS announced_sequence,
    arraySort(groupArrayIf((reached, first_sequence), first_sequence > reached)) AS missing,
    sumIf(first_sequence - reached, first_sequence > reached) AS missing_events,
    any(announced.emitted) AS emitted, any(announced.spooled) AS spooled, any(announced.dropped) AS dropped,
    any(announced.closed) AS closed, any(announced.last_heard) AS last_heard
FROM gaps
INNER JOIN announced USING (gateway_id, epoch, topic, partition)
GROUP BY gateway_id, epoch, topic, partition;

-- Attempts whose rows contradict each other: two contents of one revision, or two starts of the request.
CREATE OR REPLACE VIEW attempt_conflicts AS
SELECT
    gateway_id, request_id, attempt,
    any(tenant_id) AS tenant_id,
    uniqExact(usage_revision, response_hash) - uniqExact(usage_revision) AS extra_contents,
    uniqExact(request_started_at) - 1 AS extra_starts,
    groupUniqArray(response_hash) AS response_hashes,
    groupUniqArray(posted_hour) AS posted_hours
FROM usage_facts
WHERE has_response
GROUP BY gateway_id, request_id, attempt
HAVING extra_contents > 0 OR extra_starts > 0;

-- What came of each refused record (event_index -1) and event. `state`: refused_again, the same came again at
-- `again_offset` and was refused again, see its row; admitted, all that it claims to hold came again later and was
-- settled; discarded by an operator; else open. A record that could not be read says nothing of what it holds: an
-- operator's discard says it, as `gatemeter quarantine replay` and `discard` do once a release can read it.
-- `sequences_given_up`: an operator settled the sequences too.
CREATE OR REPLACE VIEW quarantine_state AS
WITH
    given_up AS
    (
        SELECT
            topic, partition, offset, event_index,
            min(discard_offset) AS first_discard,
            argMin(q.reason, discard_offset) AS why,
            argMin(kid, discard_offset) AS who,
            minIf(discard_offset, q.next_sequence > q.first_sequence) AS settled_at,
            argMinIf((q.gateway_id, q.epoch, q.first_sequence, q.next_sequence), discard_offset, q.epoch != '') AS named
        FROM quarantine_discards AS q FINAL
        GROUP BY topic, partition, offset, event_index
    ),
    refused AS
    (
        SELECT
            q.topic AS topic, q.partition AS partition, q.offset AS offset, q.event_index AS event_index,
            q.reason AS reason, q.detail AS detail, q.gateway_id AS gateway_id,
            if(q.epoch = '', d.named.1, q.claimed_gateway_id) AS claimed_gateway_id,
            if(q.epoch = '', d.named.2, q.epoch) AS epoch,
            if(q.epoch = '', d.named.3, q.first_sequence) AS first_sequence,
            if(q.epoch = '', d.named.4, q.next_sequence) AS next_sequence,
            q.record_digest AS record_digest, q.recorded_at AS recorded_at,
            d.first_discard AS first_discard, d.settled_at AS settled_at, d.why AS why, d.who AS who,
            max(q.offset) OVER (
                PARTITION BY q.topic, q.partition, q.event_index >= 0,
                    if(q.event_index >= 0,
                        concat(q.gateway_id, '\n', q.epoch, '\n', toString(q.first_sequence)), q.record_digest)
            ) AS last_offset
        FROM quarantine AS q FINAL
        LEFT JOIN given_up AS d ON d.topic = q.topic AND d.partition = q.partition AND d.offset = q.offset
            AND d.event_index = q.event_index
    ),
    came_again AS
    (
        SELECT
            r.topic AS topic, r.partition AS partition, r.offset AS offset, r.event_index AS event_index,
            intervalLengthSum(
                greatest(g.first_sequence, r.first_sequence), least(g.next_sequence, r.next_sequence)) AS covered,
            count() AS runs
        FROM refused AS r
        INNER JOIN
        (
            SELECT topic, partition, gateway_id, epoch, first_sequence, next_sequence, first_offset
            FROM gateway_epochs
            WHERE epoch IN
            (
                SELECT epoch FROM quarantine WHERE epoch != ''
                UNION DISTINCT SELECT epoch FROM quarantine_discards WHERE epoch != ''
            )
        ) AS g ON g.topic = r.topic AND g.partition = r.partition AND g.gateway_id = r.claimed_gateway_id
            AND g.epoch = r.epoch
        WHERE g.first_offset > r.offset
            AND g.first_sequence <= r.next_sequence
            AND g.next_sequence >= r.first_sequence
            AND (r.settled_at = 0 OR g.first_offset < r.settled_at)
        GROUP BY topic, partition, offset, event_index
    )
SELECT
    r.topic AS topic,
    r.partition AS partition,
    r.offset AS offset,
    r.event_index AS event_index,
    multiIf(
        r.last_offset > r.offset, 'refused_again',
        a.runs > 0 AND a.covered = r.next_sequence - r.first_sequence, 'admitted',
        r.first_discard > 0, 'discarded',
        'open') AS state,
    r.reason AS reason,
    r.detail AS detail,
    r.gateway_id AS gateway_id,
    r.claimed_gateway_id AS claimed_gateway_id,
    r.epoch AS epoch,
    r.first_sequence AS first_sequence,
    r.next_sequence AS next_sequence,
    r.record_digest AS record_digest,
    r.recorded_at AS recorded_at,
    if(r.last_offset > r.offset, r.last_offset, NULL) AS again_offset,
    r.why AS discard_reason,
    r.who AS discarded_by,
    r.settled_at > 0 AS sequences_given_up
FROM refused AS r
LEFT JOIN came_again AS a ON a.topic = r.topic AND a.partition = r.partition AND a.offset = r.offset
    AND a.event_index = r.event_index
SETTINGS join_use_nulls = 0;
