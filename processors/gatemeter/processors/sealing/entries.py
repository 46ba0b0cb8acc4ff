"""Ledger entries of a seal: the lines of its requests as they are now against what earlier seals posted of them.

Of a line that was never posted one entry is made. Where anything of a posted line differs, two: a reversal that takes
back the quantities and amounts of the old entry, then the line as it is now; nothing is netted. Equal lines post
nothing.
Frames hold amounts as 64-bit integers of 10⁻¹² currency units and times as microseconds UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import polars as pl

from gatemeter.processors.sealing.periods import period_of, posting_period
from gatemeter.schemas.tables import BUCKETS, METERS, TABLES

_POLARS: Final[dict[str, pl.DataType]] = {
    "string": pl.String(),
    "int": pl.Int64(),
    "time": pl.Int64(),
    "pico": pl.Int64(),
    "u16": pl.Int64(),
}
LEDGER: Final = {name: _POLARS[kind.removesuffix("?")] for name, kind in TABLES["ledger"]}
"""Columns of the table `ledger` as they are in frames."""

_BOOKED: Final = (
    "seal_id",
    "entry",
    "posted_hour",
    "usage_period",
    "posting_period",
    "cause",
    "reverses",
    "reference",
    "reason",
)
LINE: Final = tuple(name for name in LEDGER if name not in _BOOKED)
"""What a line says; where one of these differs from what was posted, the line is posted anew."""

CORRECTION: Final = {
    "correction_run": pl.String(),
    "correction_cause": pl.String(),
    "correction_reason": pl.String(),
    "correction_hour": pl.Int64(),
}
"""Columns of lines beside `LINE`: the correction in force on it, '' for none."""

LINES: Final = {name: LEDGER[name] for name in LINE} | CORRECTION
QUANTITIES: Final = (
    *BUCKETS,
    *("input_tokens", "output_tokens", "avoided_input_tokens", "avoided_output_tokens"),
    *METERS,
    *(name for name, kind in TABLES["ledger"] if kind == "pico?"),
)
"""What a reversal negates."""

ENTRIES: Final = {name: kind for name, kind in LEDGER.items() if name not in ("seal_id", "entry")}
_KEYS: Final = {"usage": ("gateway_id", "request_id", "attempt"), "decision": ("gateway_id", "decision_id")}


class LedgerDiffers(Exception):
    """The ledger holds a line that the facts do not give: rows were lost or changed. The audit finds out which."""


def entries_of(kind: str, lines: pl.DataFrame, posted: pl.DataFrame, *, hour_us: int, open_period: str) -> pl.DataFrame:
    """The entries (columns `ENTRIES`) that the seal of an hour makes of these lines, in the order of their keys.

    `lines`: columns `LINES`, every line of the requests (or decisions) in question. `posted`: columns `LEDGER`, what
    earlier seals hold of the same ones now. Raises `LedgerDiffers`.
    """
    key = _KEYS[kind]
    gone = posted.join(lines, on=key, how="anti")
    if gone.height:
        line = gone.row(0, named=True)
        raise LedgerDiffers(
            f"ledger entry {line['seal_id']}:{line['entry']} of {kind} {line[key[1]]!r} (gateway"
            f" {line['gateway_id']!r}) has no row in the facts any more"
        )
    was = posted.select(
        *key,
        *(pl.col(name).alias(f"{name}_was") for name in (*LINE, "seal_id", "entry") if name not in key),
    )
    both = lines.join(was, on=key, how="left", maintain_order="left")
    new = both.filter(pl.col("seal_id_was").is_null())
    compared = [name for name in LINE if name not in key]
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_was")) for name in compared)
    changed = both.filter(pl.col("seal_id_was").is_not_null() & differs)
    late = pl.when(pl.col("usage_hour") < hour_us).then(pl.lit("late")).otherwise(pl.lit("usage"))
    first = new.with_columns(cause=late, reverses=pl.lit(""), reference="correction_run", reason="correction_reason")
    parts = [first.with_columns(part=pl.lit(1, pl.Int8)), *_changes(changed, key, hour_us)]
    columns = [*LINE, "cause", "reverses", "reference", "reason", "part"]
    made = pl.concat([part.select(columns) for part in parts]).sort(*key, "part")
    return _booked(made, hour_us, open_period)


def _changes(changed: pl.DataFrame, key: tuple[str, ...], hour_us: int) -> list[pl.DataFrame]:
    corrected = (pl.col("correction_run") != "") & (pl.col("correction_hour") == hour_us)
    cause = (
        pl.when(corrected)
        .then("correction_cause")
        .when(pl.col("response_hash") != pl.col("response_hash_was"))
        .then(pl.lit("revision"))
        .when(pl.col("attempt_role") != pl.col("attempt_role_was"))
        .then(pl.lit("retry_rule"))
        .otherwise(pl.lit("revision"))
    )
    reason = pl.when(corrected).then("correction_reason").otherwise(pl.lit(""))
    place = pl.concat_str("seal_id_was", pl.lit(":"), pl.col("entry_was").cast(pl.String))
    changed = changed.with_columns(cause=cause, reason=reason, place=place, corrected=corrected)
    taken_back = changed.with_columns(
        *(
            (-pl.col(f"{name}_was") if name in QUANTITIES else pl.col(f"{name}_was")).alias(name)
            for name in LINE
            if name not in key
        ),
        reverses="place",
        reference=pl.lit(""),
        part=pl.lit(0, pl.Int8),
    )
    put_instead = changed.with_columns(
        reverses=pl.lit(""),
        reference=pl.when("corrected").then("correction_run").otherwise("place"),
        part=pl.lit(1, pl.Int8),
    )
    return [taken_back, put_instead]


def free_entries(rows: Iterable[Mapping[str, Any]], *, hour_us: int, open_period: str) -> pl.DataFrame:
    """One entry (columns `ENTRIES`) each for the free corrections among rows of `corrections`, in their order."""
    made = []
    for row in rows:
        if row["kind"] != "free":
            continue
        entry: dict[str, Any] = {name: _blank(name) for name in LINE}
        entry |= {name: row[name] for name in LINE if row.get(name) is not None and name != "kind"}
        retry_cost = None if row["charge"] is None else 0
        entry |= {"kind": "correction", "retry_cost": retry_cost, "cause": row["cause"], "reverses": ""}
        made.append(entry | {"reference": row["run_id"], "reason": row["reason"]})
    columns = {name: LEDGER[name] for name in (*LINE, "cause", "reverses", "reference", "reason")}
    return _booked(pl.DataFrame(made, schema=columns, orient="row"), hour_us, open_period)


def _blank(name: str) -> Any:
    kind = dict(TABLES["ledger"])[name]
    return None if kind.endswith("?") else "" if kind == "string" else 0


def _booked(made: pl.DataFrame, hour_us: int, open_period: str) -> pl.DataFrame:
    if not made.height:
        return pl.DataFrame(schema=ENTRIES)
    usage_hours = made.get_column("usage_hour").unique().to_list()
    periods = {at_us: period_of(at_us) for at_us in usage_hours}
    posted = {at_us: posting_period(period, open_period) for at_us, period in periods.items()}
    hours = pl.col("usage_hour")
    return made.with_columns(
        posted_hour=pl.lit(hour_us, pl.Int64),
        usage_period=hours.replace_strict(periods, return_dtype=pl.String()).cast(pl.String),
        posting_period=hours.replace_strict(posted, return_dtype=pl.String()).cast(pl.String),
    ).select(*ENTRIES)
