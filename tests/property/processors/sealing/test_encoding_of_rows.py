"""The bytes of the column-wise encoder are those of fastavro, for any rows of facts and of the ledger."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.processors.sealing.encoding import avro_bodies
from gatemeter.schemas.seals import leaf_body
from gatemeter.schemas.tables import TABLES
from gatemeter.sinks.arrow import rows_to_arrow
from support.facts import HOUR_US, NOON_US

LONG = st.integers(-(2**63), 2**63 - 1)
EDGES = st.sampled_from([0, 1, -1, 63, 64, -64, -65, 8191, 8192, 2**31, 2**62, -(2**62), 2**63 - 1, -(2**63)])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(st.characters(exclude_categories=("Cs",)), max_size=70),
    "int": EDGES | LONG,
    "u64": st.integers(0, 2**64 - 1),
    "u16": st.integers(0, 65535),
    "u8": st.integers(0, 255),
    "bool": st.booleans(),
    "time": st.integers(0, 1000).map(lambda hours: NOON_US + hours * HOUR_US + hours),
    "pico": EDGES | LONG,
}


def rows_of(table: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    columns = {
        name: (st.none() | VALUES[kind[:-1]]) if kind.endswith("?") else VALUES[kind] for name, kind in TABLES[table]
    }
    varied = st.lists(st.fixed_dictionaries(columns), max_size=4)
    return varied | st.tuples(st.fixed_dictionaries(columns), st.integers(1, 3)).map(lambda pair: [pair[0]] * pair[1])


@pytest.mark.parametrize(
    ("table", "kind", "schema"),
    [
        ("usage_facts", "usage", "UsageLeaf"),
        ("policy_facts", "decision", "PolicyLeaf"),
        ("ledger", "entry", "LedgerEntry"),
        ("corrections", "correction", "Correction"),
    ],
)
def test_rows_encoded_by_column_equal_rows_encoded_one_by_one(table: str, kind: str, schema: str) -> None:
    @settings(max_examples=25, deadline=None)
    @given(rows_of(table), st.integers(0, 2))
    def equal(rows: list[dict[str, Any]], cut: int) -> None:
        bodies = avro_bodies(schema, rows_to_arrow(table, rows).slice(cut))
        assert bodies.to_pylist() == [leaf_body(kind, row) for row in rows[cut:]]

    equal()


def test_an_amount_beyond_64_bits_and_a_missing_column_are_named() -> None:
    empty: dict[str, Any] = {"string": "", "bool": False}
    row = {name: None if kind.endswith("?") else empty.get(kind, 0) for name, kind in TABLES["usage_facts"]}
    with pytest.raises(ValueError, match=r"UsageLeaf\.charge: an amount must be within"):
        avro_bodies("UsageLeaf", rows_to_arrow("usage_facts", [row | {"charge": 2**63}, row | {"charge": 1}]))
    rows = rows_to_arrow("usage_facts", [row, row])
    with pytest.raises(ValueError, match=r"UsageLeaf\.kid"):
        avro_bodies("UsageLeaf", rows.drop_columns(["kid"]))
    with pytest.raises(ValueError, match=r"UsageLeaf\.kid: null"):
        nothing = pa.array([None, None], pa.string())
        avro_bodies("UsageLeaf", rows.set_column(rows.schema.get_field_index("kid"), "kid", nothing))
