"""The emitter: what a gateway hook holds. Fire and forget, a few microseconds a call, never an exception.

    emitter = Emitter(EmitterSettings.from_environment(spool_folder=Path("/var/spool/gatemeter")))
    emitter.request(request_id=(rid := new_request_id()), request_started_at=now_us(), tenant_id="acme", model="gpt-4o")
    ...
    emitter.close(timeout_s=10)

Only making an emitter may raise (`SettingsError`, `OSError`), so that a wrong configuration shows at the start.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from gatemeter.producers.attestation import Attestor
from gatemeter.producers.batching import ENVELOPE_BYTES
from gatemeter.producers.complaints import Complaints
from gatemeter.producers.events import Event, PolicyEvent, RequestEvent, ResponseEvent, now_us
from gatemeter.producers.folders import EpochFolder
from gatemeter.producers.inheritance import Inherited, take_over, write_end
from gatemeter.producers.publishing import Publisher
from gatemeter.producers.segments import FileSegment, MemorySegment, Segment
from gatemeter.producers.settings import EmitterSettings
from gatemeter.producers.spool import Spool
from gatemeter.producers.transport import KafkaTransport, Transport
from gatemeter.producers.uncounted import has_text, with_counted_text, without_longest_text
from gatemeter.producers.validation import InvalidEvent, spool_form
from gatemeter.schemas import limits
from gatemeter.schemas.signing import OperatorKey

_log: Final = logging.getLogger(__name__)
MAX_SPOOLED_BYTES: Final = limits.MAX_BATCH_BYTES - ENVELOPE_BYTES
"""Largest event in the spool's form. Its Avro form is at most 300 bytes longer, the envelope takes the rest."""
EXIT_TIMEOUT_S: Final = 5.0
"""How long the interpreter's exit waits for an emitter that was not closed."""
_E = TypeVar("_E", RequestEvent, ResponseEvent, PolicyEvent)


class EmitterCounters(NamedTuple):
    """Of this process since the emitter began. `emitted` = `delivered` + `spooled`; the others were refused.

    `dropped`: the spool was full or could not be written, or the event was too large. `invalid`: out of range.
    """

    emitted: int
    spooled: int
    delivered: int
    dropped: int
    invalid: int


@dataclass(frozen=True)
class CloseReport:
    """`undelivered` events were accepted and are not in Kafka; `kept`: they wait in the spool for the next process.

    `inherited_bytes`: what is left of dead processes' spools. `counters` are the last ones.
    """

    undelivered: int
    kept: bool
    inherited_bytes: int
    counters: EmitterCounters


class _Run:
    """What belongs to one process: an epoch, its spool and its thread. A forked child gets another."""

    def __init__(
        self,
        settings: EmitterSettings,
        complaints: Complaints,
        connect: Callable[[], Transport],
        attestation_key: OperatorKey | None,
    ) -> None:
        self.epoch = new_epoch()
        self.folder: EpochFolder | None = None
        self._fsync = settings.spool_mode == "fsync"
        if settings.spool_folder is not None:
            self.folder = EpochFolder.create(Path(settings.spool_folder), self.epoch)
        self.spool = Spool(
            settings.gateway_id,
            settings.gateway_kind,
            self.epoch,
            settings.topic,
            new_segment=self._new_segment,
            max_bytes=settings.max_spool_bytes,
            segment_bytes=settings.segment_bytes,
            complaints=complaints,
        )
        self._settings = settings
        self.publisher = Publisher(
            self.spool,
            settings,
            connect=connect,
            inherit=self._inherit,
            complaints=complaints,
            attestor=self._attestor(attestation_key),
        )
        self.publisher.start()

    def _new_segment(self, number: int) -> Segment:
        if self.folder is None:
            return MemorySegment(number)
        return FileSegment.create(self.folder.path / f"{number:08d}.seg", number, fsync=self._fsync)

    def _attestor(self, key: OperatorKey | None) -> Attestor | None:
        return None if key is None else Attestor(key, self._settings.gateway_id, self.epoch, self._settings.topic)

    def _inherit(self) -> list[Inherited]:
        root = self._settings.spool_folder
        return [] if root is None else take_over(Path(root), self._settings.gateway_id)

    def close(self, timeout_s: float) -> tuple[int, int]:
        """Ends the thread. Returns events undelivered and bytes of dead processes that are left."""
        self.spool.stop_accepting()
        self.publisher.finish(timeout_s)
        self.publisher.join(timeout_s + 5.0)
        undelivered = self.spool.totals().spooled
        inherited = sum(origin.bytes for origin in self.publisher.inherited)
        for origin in self.publisher.inherited:
            for held in origin.held:
                held.segment.close()
            origin.folder.release()
        is_over = self.spool.closing_left == 0 and not undelivered
        self.spool.close()
        if self.folder is not None and is_over:
            self.folder.remove()
        elif self.folder is not None:
            if self.spool.partitions:
                write_end(self.folder, self.spool)
            self.folder.release()
        return undelivered, inherited

    def abandon(self) -> None:
        """In a forked child: lets go of the parent's files and locks, and never destroys its producer."""
        self.spool.abandon()
        if self.folder is not None:
            self.folder.release()
        for origin in self.publisher.inherited:
            origin.folder.release()
        if isinstance(self.publisher.transport, KafkaTransport):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.publisher.transport.immortal()))


class Emitter:
    """Thread-safe, and safe after a fork: the child continues under an epoch of its own.

    `connect` replaces the way to Kafka in tests.
    """

    def __init__(self, settings: EmitterSettings, *, connect: Callable[[], Transport] | None = None) -> None:
        self.settings = settings
        self._complaints = Complaints()
        self._connect = connect or self._kafka
        self._invalid = 0
        self._refused = 0
        self._refused_at_close = 0
        self._report: CloseReport | None = None
        self._start_lock = threading.RLock()
        self._attestation_key = settings.attestation_key()
        self._run: _Run | None = self._new_run()
        _EMITTERS.add(self)

    def _kafka(self) -> Transport:
        settings = {"client.id": f"gatemeter-{self.settings.gateway_id}", **self.settings.kafka}
        return KafkaTransport({**settings, "bootstrap.servers": self.settings.bootstrap}, self._complaints)

    def request(self, event: RequestEvent | None = None, /, **fields: Any) -> bool:
        """A call begins. Give an event or its fields. False where it was refused (see `counters`)."""
        return self._emit(RequestEvent, event, fields)

    def response(self, event: ResponseEvent | None = None, /, **fields: Any) -> bool:
        """An attempt ended. As `request`."""
        return self._emit(ResponseEvent, event, fields)

    def policy(self, event: PolicyEvent | None = None, /, **fields: Any) -> bool:
        """A policy decided. As `request`."""
        return self._emit(PolicyEvent, event, fields)

    def emit(self, event: Event) -> bool:
        """An event of any kind. As `request`."""
        return self._emit(type(event), event, {})  # type: ignore[type-var]

    def _emit(self, kind: type[_E], event: _E | None, fields: dict[str, Any]) -> bool:
        try:
            if event is None:
                event = kind(**fields)
            elif fields:
                raise InvalidEvent("give an event or its fields, not both")
            body = self._spool_form(event)
            run = self._run or self._restarted()
            if run is None:
                self._refused += 1
                return False
            if len(body) > MAX_SPOOLED_BYTES:
                self._complaints.say(
                    _log, "an event was dropped: it must have at most %d bytes, got %d", MAX_SPOOLED_BYTES, len(body)
                )
                return run.spool.drop(event.request_id)
            return run.spool.append(event.request_id, body)
        except (InvalidEvent, TypeError) as error:
            self._invalid += 1
            self._complaints.say(_log, "an event was refused: %s", error)
        except Exception as error:  # noqa: BLE001  metering must never break the request that it meters
            self._refused += 1
            self._complaints.say(_log, "an event was dropped: %r", error)
        return False

    def _spool_form(self, event: Event) -> bytes:
        """Raises `InvalidEvent`. No text is in it but what the operator lets be counted."""
        if type(event) is not ResponseEvent or not has_text(event):
            return spool_form(event)
        event = with_counted_text(event, allowed=self.settings.uncounted_text)
        body = spool_form(event)
        while len(body) > MAX_SPOOLED_BYTES and has_text(event):
            self._complaints.say(
                _log, "a text to be counted was left out: its event must have at most %d bytes", MAX_SPOOLED_BYTES
            )
            event = without_longest_text(event)
            body = spool_form(event)
        return body

    def _restarted(self) -> _Run | None:
        """The run of a forked child, begun by its first event; None after `close`."""
        with self._start_lock:
            if self._run is None and self._report is None:
                self._run = self._new_run()
            return self._run

    def _new_run(self) -> _Run:
        return _Run(self.settings, self._complaints, self._connect, self._attestation_key)

    @property
    def epoch(self) -> str:
        """The epoch of this process; '' before the first event after a fork and after `close`."""
        run = self._run
        return run.epoch if run is not None else ""

    def free_bytes(self) -> int:
        """Room in the spool, in bytes; 0 after `close`. For hosts that can tell their senders to wait."""
        run = self._run or self._restarted()
        return 0 if run is None else run.spool.free_bytes

    def counters(self) -> EmitterCounters:
        """Totals over all partitions."""
        run, report = self._run, self._report  # each once: `close` and a fork change them beside us
        if report is not None:
            return report.counters._replace(invalid=self._invalid, dropped=self._closed_dropped(report))
        if run is None:
            return EmitterCounters(0, 0, 0, self._refused, self._invalid)
        emitted, spooled, dropped = run.spool.totals()
        return EmitterCounters(emitted, spooled, emitted - spooled, dropped + self._refused, self._invalid)

    def _closed_dropped(self, report: CloseReport) -> int:
        return report.counters.dropped + self._refused - self._refused_at_close

    def close(self, timeout_s: float = 10.0) -> CloseReport:
        """Delivers what is spooled, within `timeout_s`, tells the processors that the epoch is over, and reports.

        Later events are refused. Calling it again returns the same report. Never raises.
        """
        with self._start_lock:
            run, report = self._run, self._report
            if report is None:
                undelivered, inherited = (0, 0) if run is None else self._close_run(run, timeout_s)
                counters = self.counters()
                self._refused_at_close = self._refused
                kept = self.settings.spool_mode != "memory"
                self._report = report = CloseReport(undelivered, kept and undelivered > 0, inherited, counters)
            self._run = None
            _EMITTERS.discard(self)
            return report

    def _close_run(self, run: _Run, timeout_s: float) -> tuple[int, int]:
        try:
            return run.close(timeout_s)
        except Exception as error:  # noqa: BLE001  a host that shuts down must be able to
            _log.error("the emitter could not be closed in order: %r", error)
            return run.spool.totals().spooled, 0

    def _after_fork_in_child(self) -> None:
        run, self._run = self._run, None
        self._start_lock = threading.RLock()
        self._complaints = Complaints()
        self._invalid = self._refused = 0
        if run is not None:
            run.abandon()
            _ABANDONED.append(run)


_EMITTERS: Final[set[Emitter]] = set()
"""Open emitters: one that its host has forgotten still delivers, and is closed at the interpreter's exit."""
_ABANDONED: Final[list[_Run]] = []


def new_epoch() -> str:
    """`<start in microseconds>-<process id>-<64 random bits in hex>`."""
    return f"{now_us()}-{os.getpid()}-{os.urandom(8).hex()}"


def _after_fork() -> None:
    for emitter in tuple(_EMITTERS):
        emitter._after_fork_in_child()


def _at_exit() -> None:
    for emitter in tuple(_EMITTERS):
        emitter.close(EXIT_TIMEOUT_S)


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
