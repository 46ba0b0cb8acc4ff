"""Records that are not authentic, or not for this place, are quarantined whole, each with the reason in one word."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from gatemeter.schemas import signing
from support.logs import SECRET, START_US, Gateway, Log, assert_conserved, build, collapse, new_fold, response, run
from support.logs import standard_view as standard

Headers = list[tuple[str, bytes]]
KID = (signing.KID_HEADER, b"a-1")


def _signed(value: bytes, kid: bytes = b"a-1") -> Headers:
    return [(signing.KID_HEADER, kid), (signing.MAC_HEADER, signing.mac(SECRET, value))]


HEADERS: dict[str, Callable[[bytes], Headers]] = {
    "no_key_id": lambda value: _signed(value)[1:],
    "unknown_key": lambda value: _signed(value, b"nobody"),
    "bad_mac": lambda value: [KID, (signing.MAC_HEADER, bytes(32))],
    "wrong_gateway": lambda value: _signed(value, b"b-1"),
}


@pytest.mark.parametrize("columnar", [False, True])
@pytest.mark.parametrize("reason", HEADERS)
def test_a_record_with_wrong_headers_is_quarantined_whole(reason: str, columnar: bool) -> None:
    _expect_refusal(reason, columnar, HEADERS[reason])


@pytest.mark.parametrize("columnar", [False, True])
@pytest.mark.parametrize(
    ("reason", "envelope"),
    [
        ("wrong_partition", {"partition": 7}),
        ("wrong_partition", {"topic": "another"}),
        ("invalid", {"epoch": "yesterday"}),
        ("future", {"epoch": f"{START_US + 2 * 3_600_000_000}-1-{1:016x}"}),
    ],
)
def test_a_record_for_another_place_or_time_is_quarantined_whole(
    reason: str, envelope: dict[str, object], columnar: bool
) -> None:
    _expect_refusal(reason, columnar, _signed, **envelope)


def _expect_refusal(reason: str, columnar: bool, headers: Callable[[bytes], Headers], **envelope: object) -> None:
    view = build(standard())
    log = Log()
    log.control(view)
    gateway = Gateway(log)
    value = gateway.value(gateway.bodies([response("r1", 0)]), 0, 0, **envelope)
    refused = log.append(value, headers(value), 1)
    gateway.send([response("r2", 2)], 2)
    outputs = run(new_fold({1: view}, columnar=columnar), log.records)
    tables = collapse(outputs)
    assert [(row["offset"], row["event_index"], row["reason"]) for row in tables["quarantine"].values()] == [
        (1, -1, reason)
    ]
    (row,) = tables["quarantine"].values()
    assert (row["raw"], row["key"]) == (value, refused.key)
    assert json.loads(row["headers"]) == [[name, content.hex()] for name, content in refused.headers]
    assert [row["request_id"] for row in tables["usage_facts"].values()] == ["r2"]
    assert_conserved(outputs[-1].checkpoint)
