"""The demo's conservation check for people, as a sentence."""

from __future__ import annotations

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
