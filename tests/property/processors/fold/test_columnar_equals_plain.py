"""The columnar fold writes what the plain fold writes, for any log and any cuts; and no cut changes what is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.processors.fold.state import Totals
from gatemeter.processors.partition import Output
from support.generated_logs import Step, build_log, examples, programs
from support.logs import collapse, new_fold, received, run

CUTS = st.lists(st.integers(1, 60), max_size=6)


def totals(checkpoint: Mapping[str, Any] | None) -> dict[str, int]:
    assert checkpoint is not None
    return {name: checkpoint[name] for name in Totals.__dataclass_fields__}


def difference(left: dict[str, Any], right: dict[str, Any]) -> list[Any]:
    """What two collapsed outputs do not have in common, column by column."""
    found: list[Any] = []
    for table in left:
        for key in {**left[table], **right[table]}:
            a, b = left[table].get(key), right[table].get(key)
            if a is None or b is None:
                found.append((table, key, "only left" if b is None else "only right"))
            elif a != b:
                found.append((table, key, {name: (a[name], b[name]) for name in a if a[name] != b[name]}))
    return found


def closed(outputs: Sequence[Output]) -> set[tuple[str, str]]:
    """Epochs that some row states as closed."""
    rows = [output.tables["gateway_epochs"].to_pylist() for output in outputs if "gateway_epochs" in output.tables]
    return {(row["gateway_id"], row["epoch"]) for part in rows for row in part if row["closed"]}


@given(programs(60, 15), CUTS)
@examples(80)
def test_columnar_fold_equals_plain_fold(program: list[Step], cuts: list[int]) -> None:
    log, views = build_log(program)
    cuts = [cut for cut in cuts if cut < len(log.records)]
    plain = run(new_fold(views, columnar=False), log.records)
    columnar = run(new_fold(views, columnar=True), log.records, cuts)
    assert difference(collapse(plain), collapse(columnar)) == []
    assert totals(plain[-1].checkpoint) == totals(columnar[-1].checkpoint)
    assert received(plain) == received(columnar)
    assert closed(plain) == closed(columnar)
