"""The page `/health` of a worker: its partitions, what each waits for, and what the flush has done."""

from __future__ import annotations

from typing import Any

import faust
from faust.web import Request, Response, View

from gatemeter.processors.flush import Flusher
from gatemeter.processors.ownership import Ownership


def report(ownership: Ownership, flusher: Flusher) -> dict[str, Any]:
    """What the page says; `ok` is False where something waits or the worker stops."""
    figures = flusher.figures
    partitions = [
        {"partition": owned.name, "next_offset": owned.next_offset, "waiting_for": owned.waiting_for}
        for _, owned in sorted(ownership.partitions.items())
    ]
    waits = any(entry["waiting_for"] for entry in partitions) or bool(figures.waiting_for_sink)
    return {
        "ok": ownership.failure is None and not waits,
        "failure": "" if ownership.failure is None else str(ownership.failure),
        "waiting_for_sink": figures.waiting_for_sink,
        "partitions": partitions,
        "unflushed_rows": flusher.unflushed_rows,
        "flushes": figures.flushes,
        "rows": figures.rows,
        "events": figures.events,
        "write_retries": figures.retries,
        "write_seconds": round(figures.seconds, 3),
    }


def add_page(app: faust.App, ownership: Ownership, flusher: Flusher) -> None:
    """Serves the report at `/health`: 200 where the worker runs, 503 where it stops."""

    async def health(view: View, request: Request) -> Response:
        status = 200 if ownership.failure is None else 503
        return view.json(report(ownership, flusher), status=status)

    app.page("/health")(health)
