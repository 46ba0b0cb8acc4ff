"""How a command that owns processes ends: SIGTERM and Ctrl-C unwind its blocks, so that nothing stays behind."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from gatemeter.cli.embedded.children import Children


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block with exit code 130 and 143. While it unwinds, further ones are ignored."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        raise typer.Exit(128 + number)

    before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def until_ctrl_c(children: Children) -> None:
    """Waits for a signal; raises `ChildEnded` where a child ends first."""
    while True:
        children.check()
        time.sleep(0.5)
