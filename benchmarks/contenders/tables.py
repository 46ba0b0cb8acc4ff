"""The state of rival (b) in Faust tables: what each event changed is set there and sent to a changelog topic."""

from __future__ import annotations

from typing import Any, Final

import faust
from benchmarks.contenders.event_by_event import Partition
from confluent_kafka.admin import AdminClient, NewTopic

from gatemeter.processors.fold.exchanges import Exchange, ExchangeKey
from gatemeter.processors.fold.state import EpochKey
from gatemeter.processors.fold.windows import Dimensions

TABLES: Final = ("exchanges", "epochs", "windows")


def create_changelogs(bootstrap: str, group: str, partitions: int) -> None:
    """The topics of the tables, before the app looks for them."""
    topics = [NewTopic(f"{group}-{name}-changelog", num_partitions=partitions, replication_factor=1) for name in TABLES]
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    for created in admin.create_topics(topics).values():
        created.result(30)


class Touched:
    """What one partition's records changed since it was last kept."""

    def __init__(self, state: Partition) -> None:
        self.exchanges: set[ExchangeKey] = set()
        self.epochs: dict[EpochKey, Any] = {}
        self.windows: set[tuple[int, Dimensions]] = set()
        exchange, hear, add = state.plain._exchange, state.state.epochs.hear, state.state.book.add

        def noted_exchange(key: ExchangeKey, offset: int) -> Exchange:
            self.exchanges.add(key)
            return exchange(key, offset)

        def noted_epoch(key: EpochKey, settled: Any, log_time_us: int) -> None:
            self.epochs[key] = settled
            hear(key, settled, log_time_us)

        def noted_window(slice_us: int, dimensions: Dimensions, *measures: Any) -> None:
            self.windows.add((slice_us, dimensions))
            add(slice_us, dimensions, *measures)

        state.plain._exchange = noted_exchange  # type: ignore[method-assign]
        state.state.epochs.hear = noted_epoch  # type: ignore[method-assign]
        state.state.book.add = noted_window  # type: ignore[method-assign, assignment]

    def clear(self) -> None:
        """All of it is kept."""
        self.exchanges.clear()
        self.epochs.clear()
        self.windows.clear()


class StateTables:
    """Exchanges, sequences and windows, each a table with as many partitions as the topic of events."""

    def __init__(self, app: faust.App, partitions: int) -> None:
        self._exchanges, self._epochs, self._windows = (
            app.Table(name, partitions=partitions, key_type=str) for name in ("exchanges", "epochs", "windows")
        )
        self._touched: dict[int, Touched] = {}

    def watch(self, state: Partition) -> None:
        """From now on it is known what the records of this partition change."""
        self._touched[state.state.partition] = Touched(state)

    def keep(self, state: Partition) -> None:
        """Sets what the last record changed. Called in the stream of its partition."""
        partition = state.state.partition
        touched = self._touched[partition]
        for key in touched.exchanges:
            self._exchanges["|".join(map(str, key))] = _compact(state.plain.exchanges[key])
        for (gateway_id, epoch), settled in touched.epochs.items():
            self._epochs[f"{partition}|{gateway_id}|{epoch}"] = settled
        for slice_us, dimensions in touched.windows:
            cell = state.state.book._slices[slice_us].cells[dimensions]
            self._windows["|".join(map(str, (partition, slice_us, *dimensions)))] = cell
        touched.clear()


def _compact(exchange: Exchange) -> dict[str, Any]:
    """What a later event of the exchange needs."""
    request = exchange.request
    return {
        "first_offset": exchange.first_offset,
        "last_log_time_us": exchange.last_log_time_us,
        "request": None
        if request is None
        else [request.content_hash.hex(), request.started_at_us, request.deadline_us, request.index],
        "event": None
        if request is None or request.event is None
        else {name: value for name, value in request.event.items() if value is not None and name != "content_hash"},
        "responses": {
            revision: [half.content_hash.hex(), half.started_at_us, half.dimensions, half.measures]
            for revision, half in exchange.responses.items()
        },
    }
