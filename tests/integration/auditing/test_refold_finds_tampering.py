"""The log is folded again and compared with every row: what was changed, deleted or added is named by column."""

from __future__ import annotations

from typing import Any

import pytest

from gatemeter.processors.auditing import refold
from gatemeter.sinks.reports.audit import Finding, Result
from support.audited import Audited

# One column of each class: who, what, when, usage, money, provenance, windows, and bytes kept verbatim.
CHANGES = {
    "tenant_id": "'engineering2'",
    "credential_fingerprint": "'ff'",
    "evidence_grade": "'B'",
    "cost_centre": "'cc-0'",
    "model": "'gpt-4o-mini'",
    "status": "'error'",
    "delivered": "NULL",
    "recorded_at": "recorded_at + toIntervalMicrosecond(1)",
    "usage_hour": "usage_hour + toIntervalHour(1)",
    "latency_us": "1",
    "input_text_uncached": "input_text_uncached - 1",
    "output_audio_visible": "1",
    "usage_raw": "'{}'",
    "price_status": "'free'",
    "charge": "charge - toDecimal128('0.000000000001', 12)",
    "list_cost": "NULL",
    "rate_card_hash": "'00'",
    "retry_rule": "'final_only'",
    "window_cost": "window_cost + 1",
    "kid": "'other-1'",
    "sequence": "sequence + 1",
    "metadata_offset": "metadata_offset + 1",
    "fold_release": "7",
}


def facts(audited: Audited, count: int) -> list[tuple[Any, ...]]:
    """Some facts: gateway, request, attempt, topic, partition."""
    where = "tenant_id = 'retail-banking' AND delivered"
    columns = "gateway_id, request_id, attempt, topic, partition"
    query = f"SELECT {columns} FROM usage_facts FINAL WHERE {where} ORDER BY request_id LIMIT {count}"
    return [tuple(row) for row in audited.client.query(query).result_rows]


def differences(found: list[Finding]) -> list[dict[str, Any]]:
    return [difference for finding in found for difference in finding.evidence["differences"]]


def test_an_undisturbed_database_is_clean(audited: Audited) -> None:
    result = audited.audit()
    assert result.clean, result.first_problem
    agreed = [found for found in result.findings if found.check == refold.CHECK and found.result is Result.OK]
    assert len(agreed) == audited.spine.partitions
    received = "SELECT sum(next_sequence - first_sequence) FROM gateway_epochs"
    for table, query in {
        "usage_facts": "SELECT count() FROM usage_facts FINAL",
        "policy_facts": "SELECT count() FROM policy_facts FINAL",
        "usage_windows": "SELECT count() FROM usage_windows FINAL",
        "gateway_epochs": received,
    }.items():
        assert sum(found.evidence[table] for found in agreed) == audited.one(query) > 0


def test_small_blocks_find_no_more_and_no_less(audited: Audited) -> None:
    given = audited.sources()
    assert given.kafka is not None
    small = refold.Refold(
        given.client, given.kafka, given.events_topic, given.metadata_topic, audited.trust, block_rows=1
    )
    assert [found.result for found in small.look()] == [Result.OK] * audited.spine.partitions
    audited.delete("usage_facts", f"request_id = '{facts(audited, 1)[0][1]}'")
    assert len(differences([found for found in small.look() if found.result is Result.WRONG])) == 1


def test_one_changed_column_of_one_fact_is_named(audited: Audited) -> None:
    chosen = dict(zip(CHANGES, facts(audited, len(CHANGES)), strict=True))
    for column, (_, request, attempt, *_) in chosen.items():
        which = f"request_id = '{request}' AND attempt = {attempt}"
        audited.change("usage_facts", f"{column} = {CHANGES[column]}", which)
    found = audited.wrong(refold.CHECK)
    by_request = {each["row"]["request_id"]: each for each in differences(found)}
    assert len(by_request) == len(CHANGES)
    for column, (_, request, attempt, *_) in chosen.items():
        difference = by_request[request]
        assert (difference["how"], difference["changed"].keys()) == ("changed", {column})
        assert difference["row"]["attempt"] == str(attempt)
    assert "usage_facts: fact gateway_id litellm, request_id " in found[0].what
    assert "was changed: " in found[0].what


def test_a_fact_that_was_moved_to_another_hour_is_one_change(audited: Audited) -> None:
    ((_, request, *_),) = facts(audited, 1)
    which = f"request_id = '{request}' AND attempt = 1"
    hour = audited.one(f"SELECT posted_hour FROM usage_facts WHERE {which}")
    audited.insert_changed("usage_facts", "posted_hour - toIntervalHour(1) AS posted_hour", which)
    audited.delete("usage_facts", f"{which} AND posted_hour = '{hour:%Y-%m-%d %H:%M:%S}'")
    (found,) = audited.wrong(refold.CHECK)
    assert f"request_id {request}, attempt 1" in found.what
    assert "was changed: posted_hour " in found.what


def test_deleted_and_added_facts_are_named(audited: Audited) -> None:
    (_, gone, *_), (_, doubled, *_) = facts(audited, 2)
    audited.delete("usage_facts", f"request_id = '{gone}'")
    audited.insert_changed("usage_facts", "'forged' AS request_id", f"request_id = '{doubled}'")
    found = audited.wrong(refold.CHECK)
    assert {each["row"]["request_id"]: each["how"] for each in differences(found)} == {
        gone: "deleted",
        "forged": "added",
    }
    for finding in found:
        first = finding.evidence["differences"][0]
        assert f"request_id {first['row']['request_id']}, attempt 1" in finding.what


def test_a_row_of_a_higher_version_does_not_hide_a_change(audited: Audited) -> None:
    ((_, request, *_),) = facts(audited, 1)
    audited.insert_changed("usage_facts", "version + 1 AS version, charge + 1 AS charge", f"request_id = '{request}'")
    (found,) = audited.wrong(refold.CHECK)
    assert "was changed: version " in found.what
    assert "charge " in found.what


def test_every_table_that_the_fold_writes_is_compared(audited: Audited) -> None:
    run = audited.one("SELECT (epoch, first_sequence) FROM gateway_epochs WHERE next_sequence > 5 ORDER BY ALL LIMIT 1")
    audited.delete("gateway_epochs", f"epoch = '{run[0]}' AND first_sequence = {run[1]}")
    audited.change("usage_windows", "attempts = attempts + 1", "1")
    audited.change("policy_facts", "outcome = 'deny'", "1")
    audited.change("operator_log", "kid = 'nobody'", "act = 'RateCard'")
    audited.delete("operator_log", "partition = 1")
    forged = f"INSERT INTO quarantine (topic, offset, reason) VALUES ('{audited.spine.topic}', 1, 'invalid')"
    audited.client.command(forged)
    audited.client.command(f"INSERT INTO evidence (topic, offset, gateway_id) VALUES ('{audited.spine.topic}', 1, 'x')")
    wrong = audited.wrong(refold.CHECK)
    found = {finding.what.split(":")[0]: finding.what for finding in wrong}
    written = {"usage_windows", "policy_facts", "quarantine", "gateway_epochs", "operator_log", "evidence"}
    assert found.keys() == written
    assert "evidence gateway_id x" in found["evidence"]
    acts = [finding.what for finding in wrong if finding.what.startswith("operator_log")]
    assert any("kid ops → nobody" in what for what in acts)
    assert any("act control (offset 0) is in the log and not in the table" in what for what in acts), acts
    assert "outcome allow → deny" in found["policy_facts"]
    assert "is in the table and not in the log" in found["quarantine"]
    assert "received event gateway_id litellm, epoch" in found["gateway_epochs"]


def test_a_checkpoint_that_was_changed_is_named(audited: Audited) -> None:
    newest = audited.one("SELECT max(next_offset) FROM ingest_batches WHERE partition = 1")
    which = f"partition = 1 AND next_offset = {newest}"
    audited.change("ingest_batches", "events_admitted = events_admitted + 1", which)
    (found,) = audited.wrong(refold.CHECK)
    assert found.scope.endswith("[1]")
    assert "ingest_batches: the checkpoint at offset " in found.what
    assert "was changed: events_admitted " in found.what


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("heartbeat_sequence = 0", "announced sequences up to"),
        ("dropped = dropped + 7", "said it dropped 0 in the log, 7 in the table"),
        ("closed = NOT closed", "said it was closed:"),
    ],
)
def test_what_gateways_announced_cannot_be_changed_unseen(audited: Audited, change: str, says: str) -> None:
    """Else an event that never came could be hidden from completeness."""
    audited.change("gateway_epochs", change, "1")
    found = [finding.what for finding in audited.wrong(refold.CHECK)]
    assert any(what.startswith("gateway_epochs: litellm ") and says in what for what in found), found
