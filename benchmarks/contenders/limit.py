"""The limit (d): our transport and flush, the same decoder and the same columns, and no logic in between.

What the fold would compute is a constant or a copy. python -m benchmarks.contenders.limit
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl
import polars_avro

from gatemeter.processors import app, worker
from gatemeter.processors.fold.types import HOUR_US, LogRecord
from gatemeter.processors.partition import Output
from gatemeter.processors.settings import load_settings
from gatemeter.schemas import codec
from gatemeter.schemas.tables import TABLES, column_names
from gatemeter.sinks.arrow import frame_to_arrow

BATCH: Final = codec.CURRENT["GatewayBatch"]
CONSTANTS: Final[dict[str, Any]] = {"string": "", "bytes": b"", "bool": True}
COMPUTED_TIMES: Final = {"posted_hour": "request_started_at", "usage_hour": "request_started_at"}


class LimitFold:
    """Takes the place of `PartitionFold`: decodes, and gives the decoded columns as rows."""

    def __init__(self, topic: str, partition: int, partitions: int, checkpoint: Mapping[str, Any] | None) -> None:
        self.next_offset = 0
        self._place = {"topic": topic, "partition": partition, "partitions": partitions, "kid": "kid"}

    @property
    def replaying(self) -> bool:
        """It never resumes."""
        return False

    def check_log_bounds(self, *, earliest: int, end: int) -> None:
        """Nothing to compare with."""

    def fold(self, records: Sequence[LogRecord]) -> Output:
        """Rows of a RESPONSE in `usage_facts`, of a POLICY in `policy_facts`."""
        values = [record.value for record in records if record.value.startswith(BATCH.prefix)]
        self.next_offset = records[-1].offset + 1
        tables = {}
        events = 0
        if values:
            block = codec.container(BATCH, [value[codec.PREFIX_LENGTH :] for value in values])
            frame = polars_avro.read_avro(io.BytesIO(block))
            frame = frame.select("gateway_id", "gateway_kind", "epoch", "first_sequence", "events")
            rows = frame.explode("events").unnest("events").with_columns(pl.lit(time.time_ns() // 1000).alias("now"))
            events = rows.height
            kind = pl.col("kind").cast(pl.String)
            for table, wanted in (("usage_facts", "RESPONSE"), ("policy_facts", "POLICY")):
                tables[table] = self._table(table, rows.filter(kind == wanted))
        return Output(tables, self._checkpoint(), self.next_offset, events)

    def _table(self, table: str, rows: pl.DataFrame) -> Any:
        columns = [self._column(name, kind, rows.schema) for name, kind in TABLES[table]]
        return frame_to_arrow(table, rows.select(columns))

    def _column(self, name: str, kind: str, schema: Mapping[str, Any]) -> pl.Expr:
        base = kind.removesuffix("?")
        if name in self._place:
            return pl.lit(self._place[name]).alias(name)
        if name in ("response_hash", "content_hash"):
            return pl.col("content_hash").bin.encode("hex").alias(name)
        if name in COMPUTED_TIMES:
            started = pl.col(COMPUTED_TIMES[name]).cast(pl.Int64)
            return (started - started % HOUR_US).alias(name)
        if name in schema and (kind.endswith("?") or base in ("time", "int")):
            return pl.col(name).cast(pl.Int64) if base == "time" else pl.col(name)
        if name in schema and base == "string":
            return pl.col(name).cast(pl.String).fill_null("")
        if base == "time":
            return pl.col("now").alias(name)
        return pl.lit(CONSTANTS.get(base, 1)).alias(name)

    def _checkpoint(self) -> dict[str, Any]:
        texts = {"state": b"", "last_digest": "", "worker": "limit", "next_offset": self.next_offset}
        place = {name: value for name, value in self._place.items() if name != "kid"}
        return {**dict.fromkeys(column_names("ingest_batches"), 0), **place, **texts}


def main() -> None:
    """Runs one worker with this in the place of the fold."""
    real = app.build_app
    worker.build_app = lambda settings, sink: real(settings, sink, LimitFold)
    worker.leave(worker.run_worker(load_settings()))


if __name__ == "__main__":
    main()
