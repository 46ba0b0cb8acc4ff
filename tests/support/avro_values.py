"""Hypothesis strategies made from an Avro schema itself, so that no field of a contract is left out of a property."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
_PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "string": _TEXT,
    "bytes": st.binary(max_size=12),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
}
# Instants that every reader can show as a date: years 1970 to 2199.
_MICROS = st.integers(0, 7_258_118_400_000_000)


def values(schema: Any) -> st.SearchStrategy[Any]:
    """Values of `schema` (parsed JSON of an `.avsc`); times are ints of microseconds."""
    return _values(schema, {})


def _values(schema: Any, named: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    if isinstance(schema, str):
        return named[schema] if schema in named else _PRIMITIVES[schema]
    if isinstance(schema, list):
        return st.one_of([_values(branch, named) for branch in schema])
    if schema.get("logicalType") == "timestamp-micros":
        return _MICROS
    match schema["type"]:
        case "record":
            return st.fixed_dictionaries({field["name"]: _values(field["type"], named) for field in schema["fields"]})
        case "enum":
            return st.sampled_from(schema["symbols"])
        case "array":
            return st.lists(_values(schema["items"], named), max_size=3)
        case "map":
            return st.dictionaries(_TEXT, _values(schema["values"], named), max_size=3)
        case "fixed":
            named[schema["name"]] = st.binary(min_size=schema["size"], max_size=schema["size"])
            return named[schema["name"]]
        case primitive:
            return _values(primitive, named)
