"""Copies of seals in a folder and behind an address: in order, never written over, caught up after an outage."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gatemeter.processors.sealing.anchors import (
    Anchor,
    AnchorError,
    anchor_at,
    anchor_name,
    anchor_seals,
    record_of_copy,
)
from gatemeter.processors.sealing.chain import Chain, Seal
from support.seals import OPERATOR, SEALER, record, seal_datum


def chain(count: int) -> list[Seal]:
    made = Chain({SEALER.kid: SEALER.public_hex}, {OPERATOR.kid: OPERATOR.public_hex})
    for number in range(count):
        made.append(record(number, "Seal", seal_datum(number, made.tip_id), SEALER))
    return made.seals


class Objects(BaseHTTPRequestHandler):
    """An object store of a test."""

    kept: dict[str, bytes]

    def do_GET(self) -> None:
        found = self.kept.get(self.path)
        self.send_response(200 if found is not None else 404)
        self.end_headers()
        self.wfile.write(found or b"")

    def do_PUT(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"]))
        taken = self.path in self.kept and self.headers["If-None-Match"] == "*"
        if not taken:
            self.kept[self.path] = text
        self.send_response(412 if taken else 201)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture(params=["folder", "address"])
def anchor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Anchor]:
    if request.param == "folder":
        yield anchor_at(str(tmp_path / "worm"))
        return
    handler = type("Kept", (Objects,), {"kept": {}})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield anchor_at(f"http://127.0.0.1:{server.server_port}/seals/")
        server.shutdown()
        thread.join()


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
    anchor.put("0-x.json", b"first")
    anchor.put("0-x.json", b"second")
    assert anchor.get("0-x.json") == b"first"
    with pytest.raises(ValueError, match="not the copy of a seal"):
        record_of_copy(b"first")


def test_an_anchor_that_is_away_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AnchorError, match=f"anchor {tmp_path}/file/in: "):
        anchor_at(str(tmp_path / "file" / "in")).put("0-x.json", b"")
    with pytest.raises(AnchorError, match=r"anchor http://127\.0\.0\.1:1: GET 0-x\.json"):
        anchor_at("http://127.0.0.1:1").get("0-x.json")
