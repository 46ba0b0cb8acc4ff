"""The page on billing imports: its mapping is one, and its list of formats is whole."""

from __future__ import annotations

import re
from pathlib import Path

from gatemeter.sinks.billing import FORMATS
from gatemeter.sinks.billing.mapping import parse, shipped

PAGE = (Path(__file__).parents[4] / "docs" / "billing.md").read_text("utf-8")


def test_the_mapping_of_the_page_is_accepted() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    mapping = parse("docs", text.encode())
    assert mapping.exponents == {"amount": -2}
    assert len(mapping.patterns) == 1


def test_the_page_lists_every_format() -> None:
    assert set(re.findall(r"^\| `([a-z][a-z-]+)` \|", PAGE, re.M)) == set(FORMATS)


def test_every_shipped_mapping_says_where_its_format_is_told() -> None:
    folder = Path(__file__).parents[4] / "sinks" / "gatemeter" / "sinks" / "billing" / "mappings"
    names = {name for form in FORMATS.values() for name in form.mappings}
    assert {path.stem for path in folder.glob("*.toml")} == names
    for name in sorted(names):
        assert "# Source: " in (folder / f"{name}.toml").read_text("utf-8"), name
        shipped(name)
