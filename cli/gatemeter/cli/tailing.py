"""What the commands `gatemeter tail ...` share: a log, a state folder, an emitter, and an end in order."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import typer

from gatemeter.producers import Emitter, EmitterSettings, SettingsError
from gatemeter.producers.tails import LogFile, LogPipe, Position, PositionError, Positions, Tail
from gatemeter.producers.tails.fields import FieldsError
from gatemeter.producers.tails.running import Reader

_R = TypeVar("_R", bound=Reader)
_F = TypeVar("_F")
Source = LogFile | LogPipe


def tailed(
    log: str,
    state: Path,
    reader_of: Callable[[EmitterSettings, Position, Source], _R],
    *,
    once: bool,
    timeout: float,
    **given: Any,
) -> tuple[_R, dict[str, Any], bool]:
    """Follows `log` until it is told to stop: the reader, the counts of the run, and whether all went well.

    `given`: settings of the emitter that go before the environment. Ends with code 2 where a setting is wrong.
    """
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    is_pipe = log == "-"
    try:
        positions = Positions(state)
        position = positions.load()
        settings = EmitterSettings.from_environment(spool_folder=state / "spool", **given)
        begin = position.head, position.offset, position.since_ns
        source: Source = LogPipe(sys.stdin.fileno()) if is_pipe else LogFile(Path(log), *begin)
        reader = reader_of(settings, position, source)
        emitter = Emitter(settings)
    except (SettingsError, FieldsError, PositionError, ValueError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    tail = Tail(source, reader, emitter, None if is_pipe else positions, since_ns=position.since_ns)
    try:
        tail.run(stopped, once=once)
    finally:
        closed = emitter.close(timeout)
        source.close()
    said = {**tail.report()._asdict(), "undelivered": closed.undelivered, "kept": closed.kept}
    is_well = not (said["invalid"] or said["errors"] or closed.undelivered or closed.counters.dropped)
    return reader, said, is_well


def fields_or_end(read: Callable[[], _F]) -> _F:
    """A file of fields; ends with code 2 where it cannot be used."""
    try:
        return read()
    except FieldsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
