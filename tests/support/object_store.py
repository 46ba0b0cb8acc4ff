"""An object store behind HTTP on loopback, as an anchor may be: it takes a name once and gives what it holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Objects(BaseHTTPRequestHandler):
    """`kept`: content by path."""

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


@contextmanager
def serving(how: type[Objects] = Objects, kept: dict[str, bytes] | None = None) -> Iterator[str]:
    """The address of a store of that kind that holds `kept` (by name)."""
    paths = {f"/seals/{name}": text for name, text in (kept or {}).items()}
    handler = type("Kept", (how,), {"kept": paths})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/seals/"
        finally:
            server.shutdown()
            thread.join()
