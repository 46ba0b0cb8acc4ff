"""The demo's conservation check and the state of its seals for people, as sentences."""

from __future__ import annotations

from clickhouse_connect.driver.client import Client

from gatemeter.processors.sealing.hours import next_hour, over_before, utc, why_not_sealable
from gatemeter.processors.sealing.reading import SealReader
from gatemeter.schemas.partitions import EVENTS_TOPIC
from gatemeter.schemas.seals import HOUR_US
from gatemeter.sinks.reports.conservation import Conservation


def conservation_line(check: Conservation) -> str:
    """The sums of all partitions and the verdict."""
    sums = check.totals()
    return (
        f"Conservation: {sums['events_received']:,} events received = {sums['events_admitted']:,} admitted"
        f" + {sums['events_duplicate']:,} duplicate + {sums['events_conflict']:,} in conflict"
        f" + {sums['events_quarantined']:,} quarantined; {len(check.partitions)} partitions,"
        f" {sums['records']:,} records without a gap: {'ok' if check.ok else check.first_problem}"
    )


def sealing_line(client: Client, partitions: int) -> str:
    """How many hours are sealed, and what the next one waits for: the demo does not last until its hours are over."""
    reader = SealReader(client)
    floors = reader.floors([(EVENTS_TOPIC, partition) for partition in range(partitions)])
    ((seals, tip_us),) = client.query("SELECT count(), toUnixTimestamp64Micro(max(posted_hour)) FROM seals").result_rows
    first_us = reader.first_posted_hour(over_before(floors) + 24 * HOUR_US)
    hour_us = next_hour(tip_us if seals else None, first_us)
    if hour_us is None:
        return "Sealed hours: 0; nothing was posted"
    reason = why_not_sealable(hour_us, floors)
    waits = (
        f"hour {utc(hour_us)} is not over: {reason}" if reason else f"hour {utc(hour_us)} is over and is sealed next"
    )
    return f"Sealed hours: {seals}; {waits}"
