"""The batch-delivering transport: one Faust message per (partition, fetch), its value the fetched records.

Faust's stock transport makes a message of every record; here the cost of a message is paid once a fetch. Where a
partition begins is not the group's committed offset but what its owner asks for (`open_partition`): the sink keeps the
checkpoint, Kafka's committed offset is for lag tools. Every batch carries the number of the opening under which it
was fetched, so records and acknowledgements of an earlier assignment are known and ignored.

Built on private methods of faust-streaming 0.15.3 and aiokafka 0.14.0; a contract test fails when one of them changes.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import aiokafka
from aiokafka.errors import CorruptRecordException, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.transport.consumer import ensure_TPset
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, Message
from faust.types.tuples import ConsumerMessage, ack_lock
from mode.utils.futures import notify

from gatemeter.processors.fetched import LOG_APPEND_TIME, Fetched, Results
from gatemeter.processors.fold.types import LogRecord, LoudStop

FETCH_WAIT_MS: Final = 250
COMMIT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one partition in offset order. `start`: where the chunk before it ended. `size`: bytes of values."""

    records: list[LogRecord]
    start: int
    end: int
    opening: int
    size: int


class Owner(Protocol):
    """Who opens partitions, folds their chunks and is told when they go."""

    embedded_broker: bool

    def assigned(self, consumer: BatchConsumer, partitions: Iterable[TP]) -> None:
        """Called after each rebalance, with all partitions of this worker; each is to be opened."""

    async def revoked(self, partitions: Iterable[TP]) -> None:
        """Called before they go to another worker: last chance to write what is folded."""

    def fail(self, error: BaseException) -> None:
        """The worker cannot go on."""


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer: fetches, seeks, commits and heartbeats run here."""

    openings: dict[TP, int]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.openings = {}

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        embedded = cast("BatchTransport", transport).owner.embedded_broker
        consumer._isolation_level = "read_uncommitted" if embedded else "read_committed"
        consumer._auto_offset_reset = "none"  # a lost position is a loud stop, never a jump
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        fetcher = self._ensure_consumer()._fetcher
        fetcher._records = Results(fetcher._records)

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> Any:
        drained = await super()._fetch_records(*args, **kwargs)
        # Nothing else ran in this thread since the records were taken, so this is the opening they belong to.
        return {tp: (self.openings.get(tp, 0), records) for tp, records in drained.items()}

    async def open_at(self, tp: TP, offset: int, opening: int) -> None:
        """Moves the position; what is fetched from now on belongs to `opening`."""
        await self.call_thread(self._open_at, tp, offset, opening)

    async def _open_at(self, tp: TP, offset: int, opening: int) -> None:
        self._ensure_consumer().seek(driver.ensure_aiokafka_TP(tp), offset)
        self.openings[tp] = opening

    def at_end(self, tp: TP) -> bool:
        """Whether everything that the broker has said to exist has been taken."""
        assignment = self._ensure_consumer()._subscription.subscription.assignment
        state = assignment.state_value(driver.ensure_aiokafka_TP(tp)) if assignment is not None else None
        if state is None or state.highwater is None or not state.has_valid_position:
            return False
        return bool(state.position >= state.highwater)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        consumer = self._ensure_consumer()
        assignment = self.assignment()
        positions = {driver.ensure_aiokafka_TP(tp): offset for tp, offset in offsets.items() if tp in assignment}
        try:
            if positions:
                await asyncio.wait_for(consumer.commit(positions), COMMIT_SECONDS)
        except (KafkaError, TimeoutError) as error:
            # Costs nothing but a stale lag figure: the sink's checkpoint is what a new owner resumes from.
            self.log.warning("offsets were not committed: %r", error)
            return False
        return bool(positions)


class BatchConsumer(driver.Consumer):
    """Faust's consumer with chunks for messages and positions set by the owner of the partitions."""

    _thread: BatchConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.owner: Owner = cast("BatchTransport", self.transport).owner
        self._next_opening = 0
        self._opened: dict[TP, int] = {}
        self._position: dict[TP, int] = {}
        self._delivered: defaultdict[TP, deque[int]] = defaultdict(deque)

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def open_partition(self, tp: TP, offset: int, committed: int) -> None:
        """Delivers `tp` from `offset` on; only offsets above `committed` will be committed."""
        self._next_opening += 1
        opening = self._next_opening
        self._forget(tp)
        self._opened[tp], self._position[tp] = opening, offset
        self._committed_offset[tp] = committed
        await self._thread.open_at(tp, offset, opening)
        if self._opened.get(tp) == opening:
            self.resume_partitions({tp})

    def _forget(self, tp: TP) -> None:
        self._opened.pop(tp, None)
        self._position.pop(tp, None)
        for state in (self._delivered, self._acked, self._acked_index, self._read_offset, self._committed_offset):
            state.pop(tp, None)

    def at_end(self, tp: TP) -> bool:
        """Whether nothing of `tp` is left on the broker, as far as its last answer tells."""
        return tp in self._opened and self._thread.at_end(tp)

    def partition_count(self, topic: str) -> int:
        """Number of partitions of `topic`; 0 where it is not known yet."""
        return len(self._thread._ensure_consumer().partitions_for_topic(topic) or ())

    def is_current(self, message: Message) -> bool:
        """Whether the chunk in `message` was fetched since its partition was last opened."""
        return self._opened.get(message.tp) == cast(Chunk, message.value).opening

    async def perform_seek(self) -> None:
        """Called by Faust after a rebalance. Hands the partitions to their owner; each stays paused until opened."""
        assigned = ensure_TPset(self.assignment())
        self.pause_partitions(assigned)
        self.owner.assigned(self, assigned)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Writes and commits first: `super()` drops the acknowledgements."""
        await self.owner.revoked(revoked)
        await self.commit()
        for tp in revoked:
            self._forget(tp)
        await super().on_partitions_revoked(revoked)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """One message per partition with new records."""
        try:
            fetched, _ = await self._wait_next_records(timeout)
        except NoOffsetForPartitionError:
            # The group has committed nothing yet, and the partition was assigned and not opened: it has no position.
            await self.sleep(FETCH_WAIT_MS / 1000)
            return
        except (OffsetOutOfRangeError, CorruptRecordException) as error:
            self.owner.fail(LoudStop(f"the log cannot be read on: {error!r} (docs/operating.md, 'Loud stops')"))
            await self.sleep(1.0)
            return
        for partition, (opening, records) in (fetched or {}).items():
            tp = TP(partition.topic, partition.partition)
            if self._opened.get(tp) != opening or self.should_stop:
                continue  # fetched before the partition was opened anew, at another position
            message = self._to_message(tp, (opening, records))
            self._delivered[tp].append(message.offset)
            yield tp, cast(Message, message)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        opening, fetched = record
        start, end = self._position[tp], fetched[-1].offset + 1
        self._position[tp] = end
        self._check_clock(tp, fetched)
        chunk = Chunk(fetched, start, end, opening, sum([len(record.value) for record in fetched]))
        last = fetched[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp_us / 1_000_000,
            LOG_APPEND_TIME,
            None,
            None,
            cast(bytes, chunk),
            None,
            0,
            chunk.size,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    def _check_clock(self, tp: TP, fetched: Fetched) -> None:
        if self.owner.embedded_broker or fetched.log_append_time:
            return
        self.owner.fail(
            LoudStop(
                f"{tp.topic}[{tp.partition}]@{fetched[-1].offset}: the record's timestamp was set by its producer;"
                f" set message.timestamp.type=LogAppendTime for {tp.topic} (gatemeter topics apply does)"
            )
        )

    def ack(self, message: Message) -> bool:
        """Counts a chunk as written. False where its partition was opened anew since, or it was acknowledged before."""
        with ack_lock:
            if message.acked:
                return False
            message.acked = True
            self._unacked_messages.discard(message)
            notify(self._waiting_for_ack)
            if not self.is_current(message):
                return False
            tp = message.tp
            self._acked_index[tp].add(message.offset)
            self._acked[tp].append(message.offset)
            self._n_acked += 1
            return True

    def _new_offset(self, tp: TP) -> int | None:
        """End of the chunks that were acknowledged without one before them missing."""
        acked, delivered = self._acked_index[tp], self._delivered[tp]
        end: int | None = None
        while delivered and delivered[0] in acked:
            offset = delivered.popleft()
            acked.discard(offset)
            end = offset + 1
        self._acked[tp][:] = acked
        return end

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: what lies between two chunks' last offsets is in the second one, or not in the log at all."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: a partition may rest (secret missing, sink down), and its owner says why."""


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with our consumer."""

    Consumer = BatchConsumer

    def __init__(self, *args: Any, owner: Owner, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.owner = owner
