"""What is usual: facts by the hour, written a day at a time into `exception_hours`, so that a baseline is few rows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.exceptions.look import FACTS, MEMORY
from gatemeter.sinks.exceptions.thresholds import BASELINE_DAYS, NUMBERS
from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.rows import insert_rows

SETTLED: Final = timedelta(hours=6)
"""A day that was written less than this after its end is written again: late facts still reached it."""

NETWORKS: Final = NUMBERS["known_networks_max"][2] + 1
"""So many networks of clients are kept of an hour and credential: one more than any tenant may take for usual."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ONE: Final = timedelta(days=1)
_KEYS: Final = "hour, tenant_id, app_id, workload_id, credential_fingerprint, provider, model, region, currency"
_SUMS: Final = (
    "requests, attempts, answered, input_tokens, cache_read_tokens, cache_lookups, cache_hits, priced_tokens, "
    "list_cost, provider_cost"
)
_WRITE: Final = f"""
INSERT INTO exception_hours ({_KEYS}, made_at, {_SUMS}, client_networks)
SELECT
    {_KEYS}, {{made_at:DateTime64(6, 'UTC')}}, {", ".join(f"sum(h.{name})" for name in _SUMS.split(", "))},
    arraySort(groupUniqArrayArray(h.client_networks))
FROM
(
    SELECT
        usage_hour AS hour, tenant_id, app_id, workload_id, credential_fingerprint, provider, model, region, currency,
        toInt64(countIf(attempt = 1)) AS requests,
        toInt64(countIf(status != 'denied')) AS attempts,
        toInt64(countIf(status = 'ok')) AS answered,
        toInt64(sum(f.input_tokens)) AS input_tokens,
        toInt64(sum(f.cache_read_tokens)) AS cache_read_tokens,
        toInt64(countIf(gateway_cache IN ('miss', 'exact', 'semantic'))) AS cache_lookups,
        toInt64(countIf(gateway_cache IN ('exact', 'semantic'))) AS cache_hits,
        toInt64(sumIf(f.input_tokens + f.output_tokens, price_status = 'priced')) AS priced_tokens,
        ifNull(sum(f.list_cost), toDecimal128(0, 12)) AS list_cost,
        ifNull(sum(f.provider_cost), toDecimal128(0, 12)) AS provider_cost,
        groupUniqArrayIf({NETWORKS})(client_network, client_network != '') AS client_networks
    FROM {FACTS} AS f
    GROUP BY {_KEYS}
    UNION ALL
    SELECT DISTINCT {_KEYS}, 0, 0, 0, 0, 0, 0, 0, 0, toDecimal128(0, 12), toDecimal128(0, 12), []
    FROM exception_hours
    WHERE hour >= {{since:DateTime64(6, 'UTC')}} AND hour < {{until:DateTime64(6, 'UTC')}}
) AS h
GROUP BY {_KEYS}
"""
_DONE: Final = """
SELECT day, toUnixTimestamp64Micro(max(made_at)) FROM exception_days
WHERE day >= {first:Date} AND day < {last:Date} GROUP BY day
"""
_USED: Final = """
SELECT DISTINCT toDate(usage_hour, 'UTC') FROM usage_facts
WHERE usage_hour >= {since:DateTime64(6, 'UTC')} AND usage_hour < {until:DateTime64(6, 'UTC')}
    AND posted_hour >= {since:DateTime64(6, 'UTC')} - INTERVAL 1 HOUR
    AND posted_hour < {until:DateTime64(6, 'UTC')} + INTERVAL 3 DAY
"""


def write_hours(client: Client, day: date, now: datetime) -> None:
    """Writes the hours of a day, again where they stand. Raises `SinkUnavailable`, `SinkRefused`."""
    _write(client, day, [day], [day], now)


def write_baseline(client: Client, day: date, now: datetime) -> None:
    """Writes the hours of the baseline of a day where they are not written yet, or too early.

    Raises `SinkUnavailable`, `SinkRefused`.
    """
    days = [day - timedelta(days=number) for number in range(BASELINE_DAYS, 0, -1)]
    bounds = {"since": _start(days[0]), "until": _start(day)}
    try:
        done = {row[0]: row[1] for row in client.query(_DONE, {"first": days[0], "last": day}).result_rows}
        missing = [each for each in days if done.get(each, -1) < _us(min(_start(each) + _ONE + SETTLED, now))]
        used = {row[0] for row in client.query(_USED, bounds).result_rows} if missing else set()
    except FAILURES as error:
        raise sink_error(f"read which hours before {day} are written", error) from error
    if missing:
        _write(client, day, missing, [each for each in missing if each in used], now)


def _write(client: Client, day: date, days: list[date], used: list[date], now: datetime) -> None:
    """Writes the hours of the days that have facts, one day at a time, then which days are written."""
    doing = f"write the hours for {day}"
    try:
        for each in used:
            bounds = {"since": _start(each), "until": _start(each) + _ONE, "made_at": now}
            client.command(_WRITE, bounds, settings=MEMORY)
    except FAILURES as error:
        raise sink_error(doing, error) from error
    insert_rows(client, "exception_days", ("day", "made_at"), [(each, now) for each in days], doing)


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
