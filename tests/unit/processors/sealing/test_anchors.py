"""Copies of seals in a folder and behind an address: in order, never written over, caught up after an outage."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gatemeter.processors.sealing.anchors import (
    Anchor,
    AnchorError,
    UrlAnchor,
    anchor_at,
    anchor_name,
    anchor_seals,
    anchor_text,
    record_of_copy,
)
from gatemeter.processors.sealing.chain import Chain, Seal
from support.object_store import Objects, serving
from support.seals import OPERATOR, SEALER, record, seal_datum


def chain(count: int) -> list[Seal]:
    made = Chain({SEALER.kid: SEALER.public_hex}, {OPERATOR.kid: OPERATOR.public_hex})
    for number in range(count):
        made.append(record(number, "Seal", seal_datum(number, made.tip_id), SEALER))
    return made.seals


@pytest.fixture(params=["folder", "address"])
def anchor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Anchor]:
    if request.param == "folder":
        yield anchor_at(str(tmp_path / "worm"))
        return
    with serving() as url:
        yield anchor_at(url)


def test_seals_are_copied_once_and_what_was_missed_later(anchor: Anchor) -> None:
    seals = chain(4)
    assert anchor_seals(anchor, seals[:1]) == 1
    assert anchor_seals(anchor, seals) == 3
    assert anchor_seals(anchor, seals) == 0
    copy = anchor.get(anchor_name(seals[2]))
    assert copy is not None
    again = record_of_copy(copy)
    assert (again.value, again.headers["gm-sig"]) == (seals[2].value, seals[2].signature)


def test_what_is_there_is_never_written_over(anchor: Anchor) -> None:
    anchor.put("0.json", b"first")
    anchor.put("0.json", b"second")
    assert anchor.get("0.json") == b"first"
    with pytest.raises(ValueError, match="not the copy of a seal"):
        record_of_copy(b"first")


def test_an_anchor_that_is_away_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AnchorError, match=f"anchor {tmp_path}/file/in: "):
        anchor_at(str(tmp_path / "file" / "in")).put("0.json", b"")
    with pytest.raises(AnchorError, match=r"anchor http://127\.0\.0\.1:1: GET 0\.json"):
        anchor_at("http://127.0.0.1:1").get("0.json")


class Broken(Objects):
    """Fails in the way that the path names."""

    def do_GET(self) -> None:
        how = self.path.split("/")[1]
        if how == "refuses":
            self.send_error(503, "too busy")
        elif how == "hides":
            self.send_error(403, "no such key, or not yours")
        elif how == "breaks-off":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
        elif how == "babbles":
            self.wfile.write(b"what is HTTP?\r\n\r\n")
            self.close_connection = True
        elif how == "hangs":
            type(self).gate.wait(60)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>please log in</html>")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)  # and keeps nothing
        self.end_headers()

    gate = threading.Event()


@pytest.fixture
def broken() -> Iterator[str]:
    Broken.gate.clear()
    with serving(Broken) as url:
        yield url.removesuffix("seals/")
        Broken.gate.set()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("refuses", "GET 1.json: 503 too busy"),
        ("breaks-off", "GET 1.json: IncompleteRead"),
        ("babbles", "GET 1.json: what is HTTP?"),
        ("hangs", "GET 1.json: timed out"),
        ("answers-all", "1.json: not the copy of a seal"),
        ("hides", "0.json: it took the copy and does not hold it"),
    ],
)
def test_an_address_that_fails_is_named_in_one_line_and_nothing_counts_as_copied(
    broken: str, how: str, says: str
) -> None:
    anchor = UrlAnchor(f"{broken}{how}", timeout_seconds=0.5)
    with pytest.raises(AnchorError) as failed:
        anchor_seals(anchor, chain(2))
    assert str(failed.value).startswith(f"anchor {broken}{how}: {says}")
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize("url", ["http:///seals", "https://store/seals?token=x", "https://store/seals#a", "http://ü/"])
def test_an_address_to_which_no_name_can_be_added_is_refused(url: str) -> None:
    with pytest.raises(AnchorError, match="must be http"):
        anchor_at(url)


def test_of_each_number_the_first_seal_stays_and_another_one_is_an_error(anchor: Anchor) -> None:
    """As when the chain was rewritten by somebody who has the sealer's key, and the sealer goes on."""
    first, other = chain(1), chain(1)
    assert anchor_seals(anchor, first) == 1
    forged = replace(other[0], value=b"another record", seal_id=bytes(32))
    with pytest.raises(AnchorError, match=rf"0\.json is the copy of another seal than {'0' * 64}: run gatemeter audit"):
        anchor_seals(anchor, [forged])
    assert anchor.get("0.json") == anchor_text(first[0])
