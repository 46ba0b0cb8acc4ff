"""Whatever happens to a file on its way: it is read, or it is one error of ours; never another one."""

from __future__ import annotations

import tempfile
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.sinks.billing import BillingError
from support.billing import imported
from support.depth import depth

from benchmarks import exports  # isort: skip
from benchmarks.exports import Line  # isort: skip

LINES = tuple(
    Line(date(2026, 11, day), "gpt-5.5", "output_total", quantity=day * 1_000, amount=Decimal(day), account="a")
    for day in range(1, 4)
)
FILES = {
    "openai-costs": ("c.json", exports.write_openai_costs),
    "openai-usage": ("u.json", exports.write_openai_usage),
    "openai-csv": ("c.csv.gz", exports.write_openai_csv),
    "anthropic-cost": ("a.json", exports.write_anthropic_cost),
    "aws-cur": ("c.parquet", exports.write_aws_cur),
    "focus": ("f.csv", exports.write_focus_azure),
}
SNIPPETS = (
    b"",
    b'"',
    b"\n",
    b",",
    b"{",
    b"]",
    b"\\",
    b"\x00",
    b"\xff",
    b"null",
    b"[[[",
    b"1e999",
    b"-",
    b"9" * 400,
    b"\r",
)


@cache
def whole(form: str) -> bytes:
    name, write = FILES[form]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path, LINES)
        return path.read_bytes()


@pytest.mark.parametrize("form", FILES)
@settings(max_examples=depth(60, 1_000))
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(form: str, data: st.DataObject) -> None:
    content = bytearray(whole(form))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        gone = data.draw(st.integers(0, 40))
        content[at : at + gone] = data.draw(st.sampled_from(SNIPPETS) | st.binary(max_size=12))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILES[form][0]
        path.write_bytes(bytes(content))
        try:
            found = imported(form, path)
        except BillingError as error:
            assert "\n" not in str(error)
            return
    assert all(line.amount is None or line.amount.is_finite() for line in found.lines)
    assert len(found.rejected) == found.outcome.rejected


@settings(max_examples=depth(60, 1_000))
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode), form=st.sampled_from(sorted(FILES)))
def test_anything_else_is_refused(content: bytes, form: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        with pytest.raises(BillingError):
            imported(form, path)
