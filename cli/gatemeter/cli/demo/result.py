"""What the demo must show: the totals out of ClickHouse, held against the trace and against what was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.cli.demo.trace import Call
from gatemeter.cli.demo.traffic import Seen
from gatemeter.producers.events import ResponseEvent
from gatemeter.sinks.reports.conservation import Conservation

_TOTALS: Final = """
SELECT
    uniqExact(gateway_id, request_id) AS requests,
    sumIf(a.input_tokens, attempt_role = 'answered') AS input_tokens,
    sumIf(a.output_tokens, attempt_role = 'answered') AS output_tokens,
    count() AS attempts
FROM attempts AS a
"""
_MONEY: Final = """
SELECT currency, toString(sum(charge)) AS total, countIf(price_status = 'unpriced') AS unpriced
FROM charge_lines WHERE currency != '' GROUP BY currency ORDER BY currency
"""
_RECEIVED: Final = """
SELECT sum(events_received) FROM
(SELECT events_received FROM ingest_batches ORDER BY topic, partition, next_offset DESC LIMIT 1 BY topic, partition)
"""


@dataclass(frozen=True)
class Expected:
    """What must come out: of the trace, and of what was sent on purpose."""

    requests: int
    input_tokens: int
    output_tokens: int
    attempts: int
    duplicates_dropped: int
    events: int


@dataclass(frozen=True)
class Result:
    """The line of `--json`; `total` has all digits, so it is text. `conservation`: "ok" or the first problem."""

    requests: int
    input_tokens: int
    output_tokens: int
    attempts: int
    duplicates_dropped: int
    quarantined: int
    conservation: str
    currency: str
    total: str
    events: int
    seconds: float

    def problems(self, expected: Expected, late: int) -> list[str]:
        """One line for each thing that is not as it must be. `late`: responses that did not count as live."""
        found = asdict(self)
        lines = [
            f"{name}: expected {value:,}, got {found[name]:,}"
            for name, value in asdict(expected).items()
            if found[name] != value
        ]
        if late:
            lines.append(f"responses that came too late for the live windows: expected 0, got {late}")
        if self.quarantined:
            lines.append(f"quarantined: expected 0, got {self.quarantined}")
        if self.conservation != "ok":
            lines.append(f"conservation: {self.conservation}")
        return lines


def expected(calls: Sequence[Call], traffic: Sequence[Seen], sent: int, resent: int) -> Expected:
    """From the input alone."""
    return Expected(
        requests=len(calls),
        input_tokens=sum(call.input_tokens for call in calls),
        output_tokens=sum(call.output_tokens for call in calls),
        attempts=sum(isinstance(seen.event, ResponseEvent) for seen in traffic),
        duplicates_dropped=sum(seen.repeated for seen in traffic) + resent,
        events=sent + resent,
    )


def received(client: Client) -> int:
    """Events that the checkpoints account for."""
    return int(client.query(_RECEIVED).result_rows[0][0] or 0)


def partitions_ready(client: Client) -> int:
    """Partitions that a worker has taken up: the first CONTROL of each makes its first checkpoint."""
    return int(client.query("SELECT uniqExact(topic, partition) FROM ingest_batches").result_rows[0][0])


def read_result(client: Client, check: Conservation, seconds: float) -> Result:
    """What ClickHouse says."""
    totals: dict[str, Any] = next(iter(client.query(_TOTALS).named_results()))
    money = list(client.query(_MONEY).named_results())
    counted = check.totals()
    return Result(
        **totals,
        duplicates_dropped=counted["events_duplicate"],
        quarantined=counted["records_quarantined"] + counted["events_quarantined"],
        conservation="ok" if check.ok else check.first_problem,
        currency="+".join(line["currency"] for line in money),
        total="+".join(line["total"] for line in money),
        events=counted["events_received"],
        seconds=round(seconds, 1),
    )
