"""A record whose schema no worker knew: quarantined, and admitted as it is once a release with the schema runs."""

from __future__ import annotations

import pytest

from support.logs import Gateway, Log, assert_conserved, build, collapse, new_fold, response, run, standard_view
from support.newer_schema import install, newer_value, successor

SECOND = 1_000_000
VIEWS = {1: build(standard_view())}


@pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
def test_a_record_of_a_new_schema_is_admitted_by_its_replay_once_the_schema_is_there(
    columnar: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    log.control(VIEWS[1])
    gateway = Gateway(log)
    new = successor()
    value = newer_value(gateway, [response("r1", 0)], new)
    refused = log.append(value, gateway.headers(value), SECOND)
    fold = new_fold(VIEWS, columnar=columnar)
    outputs = run(fold, log.records)
    (row,) = collapse(outputs)["quarantine"].values()
    assert (row["reason"], row["epoch"]) == ("unknown_fingerprint", "")

    install(new, monkeypatch)
    log.again(refused, 2 * SECOND)
    upgraded = new_fold(VIEWS, columnar=columnar, checkpoint=outputs[-1].checkpoint)
    outputs += run(upgraded, log.records)
    tables = collapse(outputs)
    (fact,) = tables["usage_facts"].values()
    assert (fact["request_id"], fact["offset"], fact["epoch"]) == ("r1", 2, gateway.epoch)
    assert len(tables["quarantine"]) == 1
    assert_conserved(outputs[-1].checkpoint)
