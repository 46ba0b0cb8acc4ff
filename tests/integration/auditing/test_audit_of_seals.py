"""Sealed hours, the chain, anchors and attestations: what is changed afterwards, the audit finds and names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gatemeter.processors.auditing import anchored, attested, chain, refold, sealed
from gatemeter.processors.sealing.chain import seal_of
from gatemeter.schemas.signing import OperatorKey
from gatemeter.sinks.reports import completeness, conservation, windows
from gatemeter.sinks.reports.audit import Result
from support.audited import Audited
from support.object_store import serving
from support.seals import SEALER

SEALED = (chain.CHECK, sealed.LEAVES, sealed.LEDGER, anchored.CHECK)


def fact(audited: Audited, where: str = "charge > 0 AND delivered") -> Any:
    """One fact: request, attempt."""
    query = f"SELECT (request_id, attempt) FROM usage_facts FINAL WHERE {where} ORDER BY request_id LIMIT 1"
    return audited.one(query)


def whats(audited: Audited, *checks: str, **changes: Any) -> dict[str, str]:
    """What is wrong first, by check."""
    found: dict[str, str] = {}
    for finding in audited.wrong(*checks, **changes):
        found.setdefault(finding.check, f"{finding.scope}: {finding.what}")
    return found


def test_everything_is_clean_and_everything_was_looked_at(audited: Audited) -> None:
    result = audited.audit()
    assert (result.first_problem, result.exit_code) == ("", 0)
    checked = {finding.check for finding in result.of(Result.OK)}
    assert checked == {
        conservation.CHECK,
        completeness.CHECK,
        windows.CHECK,
        attested.CHECK,
        refold.CHECK,
        *SEALED,
    }
    assert not any("not checked" in finding.what for finding in result.findings)


def test_what_was_not_asked_for_is_said(audited: Audited) -> None:
    nothing: dict[str, Any] = dict.fromkeys(("kafka", "operator_keys", "secrets", "sealers", "gateway_keys"))
    result = audited.audit(**nothing, refold=False, anchors=())
    assert result.clean
    said = {finding.check: finding.what for finding in result.of(Result.NOTE)}
    assert said == {
        chain.CHECK: "not checked: needs --sealers",
        attested.CHECK: "not checked: needs --gateway-keys, or --bootstrap and --operator-keys",
        anchored.CHECK: "not checked: needs --anchor",
        refold.CHECK: "not checked: needs --refold with --bootstrap, --operator-keys and --secrets",
    }


def test_one_byte_of_one_fact_is_named_with_its_column(audited: Audited) -> None:
    request, attempt = fact(audited)
    which = f"request_id = '{request}' AND attempt = {attempt}"
    audited.change("usage_facts", "input_text_uncached = input_text_uncached + 1", which)
    found = whats(audited, sealed.LEAVES, sealed.LEDGER)
    assert (
        f"request {request}, attempt {attempt} was changed since it was sealed: input_text_uncached "
        in found[sealed.LEAVES]
    )
    assert "the facts no longer give what was sealed" in found[sealed.LEDGER]
    audited.change("usage_facts", "input_text_uncached = input_text_uncached - 1, rate_card_id = 'x'", which)
    found = whats(audited, sealed.LEAVES)
    assert "was changed since it was sealed; what the gateway said is unchanged" in found[sealed.LEAVES]


def test_a_deleted_fact_is_named(audited: Audited) -> None:
    request, attempt = fact(audited)
    audited.delete("usage_facts", f"request_id = '{request}' AND attempt = {attempt}")
    found = whats(audited, conservation.CHECK, windows.CHECK, *SEALED, refold.CHECK)
    assert found.keys() == {conservation.CHECK, windows.CHECK, sealed.LEAVES, sealed.LEDGER, refold.CHECK}
    assert f"request {request}, attempt {attempt} was deleted since it was sealed" in found[sealed.LEAVES]
    assert f"request_id {request}, attempt {attempt}" in found[refold.CHECK]


def test_a_deleted_batch_is_named(audited: Audited) -> None:
    topic, partition, offset = audited.one("SELECT (topic, partition, offset) FROM usage_facts ORDER BY ALL LIMIT 1")
    where = f"topic = '{topic}' AND partition = {partition} AND offset = {offset}"
    count = audited.one(f"SELECT count() FROM usage_facts FINAL WHERE {where}")
    audited.delete("usage_facts", where)
    found = audited.wrong(conservation.CHECK, sealed.LEAVES, refold.CHECK)
    assert {finding.check for finding in found} == {conservation.CHECK, sealed.LEAVES, refold.CHECK}
    leaves = next(finding for finding in found if finding.check == sealed.LEAVES)
    assert "was deleted since it was sealed" in leaves.what
    assert leaves.evidence["number"] == count


def test_an_added_fact_is_named_although_everything_else_was_made_to_agree(audited: Audited) -> None:
    request, attempt = fact(audited)
    audited.insert_changed(
        "usage_facts",
        "'forged' AS request_id, false AS fresh, 0 AS window_tokens, 0 AS window_cost",
        f"request_id = '{request}' AND attempt = {attempt}",
    )
    found = whats(audited, sealed.LEAVES)
    assert f"request forged, attempt {attempt} was added since it was sealed" in found[sealed.LEAVES]


def test_a_changed_and_a_deleted_ledger_row_are_named(audited: Audited) -> None:
    request, attempt = fact(audited)
    entry = audited.one(
        f"SELECT entry FROM ledger WHERE request_id = '{request}' AND attempt = {attempt} AND kind = 'usage'"
    )
    audited.change("ledger", "charge = charge + 1", f"entry = {entry} AND request_id = '{request}'")
    found = whats(audited, *SEALED)
    assert found.keys() == {sealed.LEDGER}
    assert f"ledger: entry {entry} (usage of {request}, attempt {attempt}) was changed: charge " in found[sealed.LEDGER]
    audited.delete("ledger", f"entry = {entry} AND request_id = '{request}'")
    found = whats(audited, *SEALED)
    assert f"ledger: entry {entry} (usage of {request}, attempt {attempt}) is gone" in found[sealed.LEDGER]


def test_a_changed_leaf_is_named(audited: Audited) -> None:
    request, attempt = fact(audited)
    which = f"request_id = '{request}' AND attempt = {attempt} AND kind = 'usage'"
    audited.change("seal_leaves", "leaf = repeat('x', 32)", which)
    found = whats(audited, *SEALED)
    assert found.keys() == {sealed.LEAVES}
    expected = f"seal_leaves: the leaf of usage of gateway litellm, request {request}, attempt {attempt} was changed"
    assert expected in found[sealed.LEAVES]


def last(audited: Audited) -> Any:
    return audited.one("SELECT (number, seal_id) FROM seals ORDER BY number DESC LIMIT 1")


def test_a_seal_deleted_from_the_table_is_found_by_the_topic(audited: Audited) -> None:
    number, _ = last(audited)
    audited.delete("seals", f"number = {number}")
    found = whats(audited, *SEALED)
    assert f"seal {number} (" in found[chain.CHECK]
    assert "has it (offset" in found[chain.CHECK]
    assert "was deleted" in found[anchored.CHECK]


def test_a_seal_deleted_everywhere_is_found_by_the_anchor(audited: Audited) -> None:
    number, seal_id = last(audited)
    for table in ("seals", "ledger", "seal_leaves"):
        audited.delete(table, f"seal_id = '{seal_id}'")
    audited.rewrite_topic([record for record in audited.records() if seal_of(record).number != number])
    found = whats(audited, *SEALED)
    assert found.keys() == {anchored.CHECK}
    assert found[anchored.CHECK].startswith(f"seal {number}: ")
    assert f"holds {seal_id}; seal {number} is not in the table seals: it was deleted" in found[anchored.CHECK]


def rewritten(audited: Audited, key: OperatorKey) -> None:
    """An attacker changes a price, forgets all seals and seals anew with a key."""
    request, attempt = fact(audited)
    audited.change("usage_facts", "charge = charge + 1", f"request_id = '{request}' AND attempt = {attempt}")
    for table in ("seals", "ledger", "seal_leaves"):
        audited.delete(table, "1")
    audited.rewrite_topic([])
    audited.seal(key)


def test_a_chain_rewritten_without_the_sealers_key_is_found(audited: Audited) -> None:
    rewritten(audited, OperatorKey.generate("sealer-1"))
    found = whats(audited, *SEALED, anchors=())
    assert "table seals: not signed by a known sealer (key id 'sealer-1')" in found[chain.CHECK]


def test_a_chain_rewritten_with_the_sealers_key_is_found_by_the_anchor(audited: Audited) -> None:
    rewritten(audited, SEALER)
    assert whats(audited, *SEALED, anchors=()) == {}
    found = whats(audited, *SEALED)
    assert found.keys() == {anchored.CHECK}
    assert found[anchored.CHECK].startswith("seal 0: ")
    assert found[anchored.CHECK].endswith("in the table: the chain was rewritten")


def copies(audited: Audited) -> dict[str, bytes]:
    """What the anchor holds, by name."""
    return {path.name: path.read_bytes() for path in (audited.spine.folder / "anchor").glob("*.json")}


def test_an_address_is_compared_as_a_folder_although_it_cannot_be_listed(audited: Audited) -> None:
    with serving(kept=copies(audited)) as url:
        assert whats(audited, anchored.CHECK, anchors=(url,)) == {}
        number, seal_id = last(audited)
        for table in ("seals", "ledger", "seal_leaves"):
            audited.delete(table, f"seal_id = '{seal_id}'")
        audited.rewrite_topic([record for record in audited.records() if seal_of(record).number != number])
        found = whats(audited, *SEALED, anchors=(url,))
        assert f"seal {number} is not in the table seals: it was deleted" in found.pop(anchored.CHECK)
        assert found == {}
        rewritten(audited, SEALER)
        found = whats(audited, *SEALED, anchors=(url,))
        assert found[anchored.CHECK].startswith("seal 0: ")
        assert found[anchored.CHECK].endswith("in the table: the chain was rewritten")


def test_an_address_that_does_not_answer_leaves_the_check_undone(audited: Audited) -> None:
    with serving() as url:
        pass  # nobody listens there any more
    result = audited.audit(anchored.CHECK, anchors=(url,))
    (finding,) = result.findings
    assert (finding.result, result.exit_code) == (Result.UNCHECKED, 2)
    assert finding.what.startswith(f"could not be checked: anchor {url.rstrip('/')}: GET 0.json: ")


def test_a_seal_changed_in_the_table_or_the_topic_is_named(audited: Audited) -> None:
    audited.change("seals", "leaves_root = repeat('0', 64)", "number = 0")
    (found,) = audited.wrong(chain.CHECK)
    assert (found.scope, "its columns are not what its record says: leaves_root" in found.what) == ("seal 0", True)
    audited.change("seals", "value = concat(substring(value, 1, 40), 'x', substring(value, 42))", "number = 0")
    assert "or its record was changed" in whats(audited, chain.CHECK)[chain.CHECK]


def test_the_first_seal_deleted_is_named_without_kafka(audited: Audited) -> None:
    audited.delete("seals", "number = 0")
    found = whats(audited, *SEALED, kafka=None, operator_keys=None, anchors=())
    assert found[chain.CHECK].startswith("seal 1: table seals: comes first: the seals before it are missing")


def test_an_anchor_that_lacks_an_old_seal_is_wrong_and_a_changed_copy_too(audited: Audited, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    shutil.copytree(audited.spine.folder / "anchor", anchor)
    first = anchor / "0.json"
    content = first.read_text()
    first.unlink()
    assert "does not hold it" in whats(audited, anchored.CHECK, anchors=(str(anchor),))[anchored.CHECK]
    first.write_text(content.replace('"signature": "', '"signature": "00'))
    found = whats(audited, anchored.CHECK, anchors=(str(anchor),))
    assert "the copy is not signed by a known sealer" in found[anchored.CHECK]


def test_a_changed_attestation_is_named(audited: Audited) -> None:
    audited.change("attestations", "signature = repeat('x', 64)", "to_sequence > from_sequence")
    assert "litellm epoch" in whats(audited, attested.CHECK)[attested.CHECK]


def test_a_deleted_run_of_received_sequences_is_named(audited: Audited) -> None:
    run = "(gateway_id, epoch, partition, first_sequence, next_sequence)"
    query = f"SELECT {run} FROM gateway_epochs WHERE next_sequence > first_sequence + 1 ORDER BY ALL LIMIT 1"
    gateway_id, epoch, partition, first, after = audited.one(query)
    which = f"epoch = '{epoch}' AND partition = {partition}"
    audited.delete("gateway_epochs", f"{which} AND first_sequence = {first} AND next_sequence = {after}")
    found = whats(audited, completeness.CHECK)[completeness.CHECK]
    assert found.startswith(f"{gateway_id} {epoch} {audited.spine.topic}[{partition}]: ")
    # where the run held the last announcement too, only the facts know better
    assert f"missing: sequences {first} to {after - 1}" in found or "rows of gateway_epochs are gone" in found
