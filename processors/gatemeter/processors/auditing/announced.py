"""What gateways announced, as the log gives it again, against `gateway_epochs`: completeness is measured by it.

How far an epoch announced its sequences, how many events it said it dropped, and whether it said it was closed: of each
the greatest counts, wherever fetches were cut. A table that says less hides events that never came; one that says more
speaks of words that nobody said, unless a worker has gone on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.rows import query_rows

NAMES: Final = ("heartbeat_sequence", "dropped", "closed")
_HELD: Final = """
SELECT gateway_id, epoch, max(heartbeat_sequence) AS heartbeat_sequence, max(dropped) AS dropped,
    max(toUInt8(closed)) AS closed
FROM gateway_epochs
WHERE topic = {topic:String} AND partition = {partition:Int64} AND first_offset < {end:Int64}
GROUP BY gateway_id, epoch ORDER BY gateway_id, epoch
"""
_WORDS: Final = {
    "heartbeat_sequence": "announced sequences up to",
    "dropped": "said it dropped",
    "closed": "said it was closed:",
}

Epoch = tuple[str, str]


class Announcements:
    """Those of one partition, collected block by block."""

    def __init__(self) -> None:
        self._said: dict[Epoch, list[int]] = {}

    def take(self, rows: pa.Table) -> None:
        """Rows of `gateway_epochs` that a fold gave."""
        for row in rows.select(["gateway_id", "epoch", *NAMES]).to_pylist():
            said = self._said.setdefault((row["gateway_id"], row["epoch"]), [0] * len(NAMES))
            said[:] = [max(before, int(row[name])) for before, name in zip(said, NAMES, strict=True)]

    def differences(self, client: Client, place: Mapping[str, Any], end: int, *, whole: bool) -> Iterator[str]:
        """One text an epoch and thing that the table says otherwise. `place`: topic and partition; `end`: offsets below
        it were folded. `whole`: from the beginning of the log; else the table may know more from before."""
        held = {
            (row["gateway_id"], row["epoch"]): [int(row[name]) for name in NAMES]
            for row in query_rows(client, "read what was announced", _HELD, {**place, "end": end})
        }
        for epoch in sorted(self._said.keys() | held.keys()):
            said, has = self._said.get(epoch), held.get(epoch, [0] * len(NAMES))
            if said is None and not whole:
                continue
            for name, then, now in zip(NAMES, said or [0] * len(NAMES), has, strict=True):
                if now < then or (whole and now > then):
                    yield f"gateway_epochs: {epoch[0]} {epoch[1]} {_WORDS[name]} {then} in the log, {now} in the table"
