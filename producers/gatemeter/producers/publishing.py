"""The background thread: takes events from the spool, batches, signs and publishes them, and frees what is delivered.

One round after another, in `_round`; nothing here ever runs in a caller's thread. What fails is tried again with
back-off for as long as the process lives; then the spool has it for the next one.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from gatemeter.producers.attestation import Attestor
from gatemeter.producers.batching import Batch, Batcher
from gatemeter.producers.complaints import Complaints
from gatemeter.producers.encoding import UnknownForm
from gatemeter.producers.events import now_us
from gatemeter.producers.inheritance import Inherited
from gatemeter.producers.origins import Origin
from gatemeter.producers.pacing import Pace
from gatemeter.producers.segments import Damaged
from gatemeter.producers.settings import EmitterSettings
from gatemeter.producers.spool import Spool
from gatemeter.producers.transport import Outcome, Transport, TransportBroken, TransportBusy
from gatemeter.schemas import codec, signing

_log: Final = logging.getLogger(__name__)
_IDLE_SECONDS: Final = 0.02
_EVENTS_A_ROUND: Final = 256
_WINDOW_BYTES: Final = 16 * 1024 * 1024
_TAKE_OVER_SECONDS: Final = 30.0
_RENEW_SECONDS: Final = 5.0
_SLOWEST_RETRY_SECONDS: Final = 30.0


@dataclass(slots=True)
class Work:
    """What the thread has done so far."""

    delivered_events: int = 0
    delivered_batches: int = 0
    failures: int = 0
    inherited_events: int = 0


class Publisher(threading.Thread):
    """`connect` makes a transport, `inherit` takes over what dead processes left. Ends after `finish`."""

    def __init__(
        self,
        spool: Spool,
        settings: EmitterSettings,
        *,
        connect: Callable[[], Transport],
        inherit: Callable[[], list[Inherited]],
        complaints: Complaints,
        attestor: Attestor | None = None,
    ) -> None:
        super().__init__(name="gatemeter-publisher", daemon=True)
        self.work = Work()
        self.inherited: list[Inherited] = []
        self.transport: Transport | None = None
        self._spool = spool
        self._settings = settings
        self._connect = connect
        self._inherit = inherit
        self._complaints = complaints
        self._attestor = attestor
        self._batcher = Batcher(
            max_events=settings.batch_events, max_bytes=settings.batch_bytes, linger_s=settings.linger_ms / 1000
        )
        self._pace = Pace()
        self._partitions: dict[str, int] = {}
        self._blocked: set[str] = set()
        self._retries: list[tuple[float, int, Batch]] = []
        self._tickets = itertools.count()
        self._window_bytes = 0
        self._next_heartbeat_s = self._next_learn_s = self._next_take_over_s = self._next_renew_s = 0.0
        self._charges: dict[str, int] = {}
        self._deadline_s: float | None = None

    def finish(self, timeout_s: float) -> None:
        """Asks the thread to deliver everything and to end within `timeout_s`."""
        self._deadline_s = time.monotonic() + timeout_s

    def run(self) -> None:
        """Rounds until `finish` is done. An error of ours is logged and never reaches the host."""
        while True:
            try:
                if self._round(time.monotonic()):
                    break
            except Exception as error:  # noqa: BLE001  whatever it is, the host goes on and the spool keeps the events
                self._complaints.say(_log, "the publisher met an error and goes on: %r", error)
                if self._deadline_s is not None and time.monotonic() > self._deadline_s:
                    break
                time.sleep(0.5)
        self._disconnect()

    def _round(self, now_s: float) -> bool:
        self._take_over(now_s)
        self._learn(now_s)
        transport = self._connected()
        transport.poll(0)
        moved = self._fill(now_s)
        self._send_due(now_s)
        self._heartbeat(now_s)
        self._free(now_s)
        if self._deadline_s is not None and self._is_finished(now_s, self._deadline_s):
            return True
        if not moved:
            self._keep_house(self._spool.prepare)
            transport.poll(_IDLE_SECONDS)
        return False

    def _connected(self) -> Transport:
        if self.transport is None:
            self.transport = self._connect()
        return self.transport

    def _disconnect(self) -> None:
        if self.transport is not None:
            transport, self.transport = self.transport, None
            transport.close()

    # --- what there is to send ---

    def _take_over(self, now_s: float) -> None:
        """At first, what dead processes left counts towards our limit; later it only has to be sent."""
        if now_s < self._next_take_over_s:
            return
        is_first, self._next_take_over_s = self._next_take_over_s == 0, now_s + _TAKE_OVER_SECONDS
        if not is_first and (self._deadline_s is not None or self._spool.is_crowded or not self._partitions):
            return
        for found in self._inherit():
            self.inherited.append(found)
            if is_first:
                self._charges[found.epoch] = found.bytes
                self._spool.charge(found.bytes)

    def _learn(self, now_s: float) -> None:
        waiting = [origin for origin in self._origins() if not origin.partitions]
        if not waiting or now_s < self._next_learn_s:
            return
        for origin in waiting:
            partitions = self._partitions.get(origin.topic) or self._connected().partitions(origin.topic)
            if partitions is None:
                self._next_learn_s = time.monotonic() + 0.5
                continue
            self._partitions[origin.topic] = partitions
            try:
                origin.learn(partitions)
            except ValueError as error:
                self._block(origin, error)

    def _origins(self) -> list[Origin]:
        return [origin for origin in (*self.inherited, self._spool) if origin.epoch not in self._blocked]

    def _block(self, origin: Origin, error: Exception) -> None:
        self._blocked.add(origin.epoch)
        _log.error("epoch %s stays in the spool: %s", origin.epoch, error)

    def _fill(self, now_s: float) -> bool:
        """Takes events into batches, at most so many; whether there were any."""
        if self._window_bytes > _WINDOW_BYTES:
            return False
        taken = 0
        attestor = self._attestor
        for origin in self._origins():
            try:
                for event in origin.take():
                    taken += 1
                    if attestor is not None and origin is self._spool:
                        attestor.add(event.partition, event.sequence, event.item[-codec.CONTENT_HASH_LENGTH :])
                    full = self._batcher.add(origin, event, now_s)
                    if full is not None:
                        self._send(full)
                    self._pace.breathe()
                    if taken >= _EVENTS_A_ROUND or self._window_bytes > _WINDOW_BYTES:
                        return self._window_bytes <= _WINDOW_BYTES
            except UnknownForm as error:
                self._block(origin, error)
            except Damaged as error:
                _log.error("%s; the rest of it is set aside", error)
        return taken > 0

    # --- sending ---

    def _send_due(self, now_s: float) -> None:
        for batch in self._batcher.due(now_s) if self._deadline_s is None else self._batcher.drain():
            self._send(batch)
        while self._retries and self._retries[0][0] <= now_s:
            self._send(heapq.heappop(self._retries)[2])

    def _send(self, batch: Batch) -> None:
        batch.value = batch.value or self._encoded(batch)
        headers = [
            (signing.KID_HEADER, self._settings.kid.encode()),
            (signing.MAC_HEADER, signing.mac(self._settings.secret, batch.value)),
        ]
        if not batch.weight:
            batch.weight = len(batch.value)
            self._window_bytes += batch.weight
        try:
            self._connected().send(
                batch.origin.topic,
                batch.partition,
                key=batch.origin.gateway_id.encode(),
                value=batch.value,
                headers=headers,
                done=partial(self._done, batch),
            )
        except TransportBusy:
            self._retry(batch, 0.05)
        except TransportBroken as error:
            self._retry(batch, 1.0)
            self._complaints.say(_log, "a new connection to Kafka is made: %s", error)
            self._disconnect()
        except Exception:
            self._retry(batch, 1.0)  # whatever it was, its events must not be forgotten
            raise
        self._pace.breathe()

    def _encoded(self, batch: Batch) -> bytes:
        origin, counters = batch.origin, batch.origin.counters(batch.partition)
        envelope = {
            "gateway_id": origin.gateway_id,
            "gateway_kind": origin.gateway_kind,
            "epoch": origin.epoch,
            "topic": origin.topic,
            "partition": batch.partition,
            "first_sequence": batch.first_sequence,
            "sent_at": now_us(),
            "counters": counters._asdict(),
            "closed": batch.closed,
            "attestation": batch.attestation,
        }
        return codec.encode_batch(envelope, batch.items)

    def _done(self, batch: Batch, outcome: Outcome) -> None:
        """The delivery callback. What is sent again keeps its place in the window."""
        if outcome is Outcome.DELIVERED:
            self._leave_window(batch)
            self._delivered(batch)
            return
        self.work.failures += 1
        if outcome is Outcome.TOO_LARGE and len(batch.items) > 1:
            self._leave_window(batch)
            for half in batch.halves():
                self._retry(half, 0.0)
        elif batch.items or batch.closed or batch.attestation is not None:
            batch.failures += 1
            self._retry(batch, min(_SLOWEST_RETRY_SECONDS, 0.25 * 2.0 ** min(batch.failures, 10)))
        else:
            self._leave_window(batch)

    def _leave_window(self, batch: Batch) -> None:
        self._window_bytes -= batch.weight
        batch.weight = 0

    def _delivered(self, batch: Batch) -> None:
        self.work.delivered_batches += 1
        self.work.delivered_events += len(batch.items)
        if batch.origin is not self._spool:
            self.work.inherited_events += len(batch.items)
        for held, group in itertools.groupby(batch.held):
            batch.origin.settle(held, batch.partition, sum(1 for _ in group))
        if batch.closed:
            batch.origin.closing_left -= 1

    def _retry(self, batch: Batch, delay_s: float) -> None:
        heapq.heappush(self._retries, (time.monotonic() + delay_s, next(self._tickets), batch))

    def _heartbeat(self, now_s: float) -> None:
        if now_s < self._next_heartbeat_s or not self._spool.partitions or self._deadline_s is not None:
            return
        self._next_heartbeat_s = now_s + self._settings.heartbeat_seconds
        if self._attestor is not None:  # what is attested goes first, so that it is there when the statement comes
            for batch in self._batcher.drain():
                self._send(batch)
        self._send_empty(self._spool, closed=False)

    def _send_empty(self, origin: Origin, *, closed: bool) -> None:
        """A heartbeat or closing batch for each partition; what is attested goes with it, the last word last."""
        for partition in range(origin.partitions):
            attested: list[bytes] = []
            if self._attestor is not None and origin is self._spool:
                attested = self._attestor.envelopes(partition, closing=closed)
            sequence = origin.next_sequences[partition]
            for attestation in attested[:-1]:
                self._send(Batch(origin, partition, sequence, 0.0, attestation=attestation))
            last = attested[-1] if attested else None
            self._send(Batch(origin, partition, sequence, 0.0, closed=closed, attestation=last))

    # --- afterwards ---

    def _free(self, now_s: float) -> None:
        spool = self._spool
        for held in spool.freeable():
            spool.free(held)
        if now_s >= self._next_renew_s or spool.is_crowded:
            self._next_renew_s = now_s + _RENEW_SECONDS
            self._keep_house(spool.renew)
        for origin in tuple(self.inherited):
            for held in origin.freeable():
                size = origin.free(held)
                if origin.epoch in self._charges:
                    self._charges[origin.epoch] -= size
                    spool.charge(-size)
            if origin.is_settled and origin.partitions:
                self._settle(origin)

    def _keep_house(self, step: Callable[[], None]) -> None:
        """A full disk must not keep us from sending, which is what makes room."""
        try:
            step()
        except OSError as error:
            self._complaints.say(_log, "the spool cannot begin a new segment: %s", error)

    def _settle(self, origin: Inherited) -> None:
        """An inherited epoch is sent: its end is announced where its emitter was closed, then its folder goes."""
        if origin.is_closed and origin.closing_left:
            if origin.closing_left < 0:
                origin.closing_left = origin.partitions
                self._send_empty(origin, closed=True)
            return
        origin.folder.remove()
        self._spool.charge(-self._charges.pop(origin.epoch, 0))
        self.inherited.remove(origin)

    def _is_finished(self, now_s: float, deadline_s: float) -> bool:
        """Everything is delivered and said to be closed, or the time is up."""
        self._pace.hurried = True
        if now_s >= deadline_s:
            return True
        spool = self._spool
        if not spool.partitions or not all(held.done for held in spool.held):
            return False
        if spool.closing_left < 0:
            spool.closing_left = spool.partitions
            self._send_empty(spool, closed=True)
        waiting = [origin for origin in self.inherited if origin.epoch not in self._blocked]
        return spool.closing_left == 0 and not waiting
