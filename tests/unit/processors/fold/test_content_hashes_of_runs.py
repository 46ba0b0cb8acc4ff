"""Every run in `gateway_epochs` carries the content hash of each of its events, settled or not; on both folds."""

from __future__ import annotations

from typing import Any

import pytest

from gatemeter.processors.partition import Output
from gatemeter.schemas import codec
from support.logs import Gateway, Log, build, new_fold, request, response, run, standard_view, to_rows

SECOND = 1_000_000


def runs(outputs: list[Output]) -> list[dict[str, Any]]:
    return [row for output in outputs for row in to_rows("gateway_epochs", output.tables["gateway_epochs"])]


def hash_of(event: dict[str, Any]) -> bytes:
    return codec.encode_event(event)[-codec.CONTENT_HASH_LENGTH :]


@pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
def test_a_run_has_the_hashes_of_duplicates_refused_events_and_interleaved_gateways(columnar: bool) -> None:
    view, log = build(standard_view()), Log()
    log.control(view)
    a, b = Gateway(log), Gateway(log, "gw-b", "b-1")
    first = [request("r-1", SECOND), response("r-1", 2 * SECOND)]
    other = [request("r-2", SECOND)]
    wrong = [request("r-3", 3 * SECOND), request("", 3 * SECOND), response("r-3", 4 * SECOND)]
    a.send(first, 2 * SECOND)
    b.send(other, 2 * SECOND)
    a.send(wrong, 4 * SECOND)
    a.send(first, 5 * SECOND, first_sequence=0)
    b.send([], 5 * SECOND)
    rows = runs(run(new_fold({1: view}, columnar=columnar), log.records))
    found: dict[tuple[str, int], bytes] = {}
    for row in rows:
        hashes = row["content_hashes"]
        assert len(hashes) == 16 * (row["next_sequence"] - row["first_sequence"])
        for number, sequence in enumerate(range(row["first_sequence"], row["next_sequence"])):
            one = hashes[16 * number : 16 * number + 16]
            assert found.setdefault((row["gateway_id"], sequence), one) == one
    expected = {("gw-a", number): hash_of(event) for number, event in enumerate([*first, *wrong])}
    assert found == expected | {("gw-b", 0): hash_of(other[0])}
