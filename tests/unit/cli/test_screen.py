"""Tables of commands hold every digit at any width, and have room where nobody said how wide the output is."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gatemeter.cli.screen import WIDTH_WITHOUT_TERMINAL, Screen, plain_table

TEXTS = st.text(st.characters(categories=["L", "N", "P"], max_codepoint=0x24F), min_size=1, max_size=40)


@given(rows=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=5), width=st.integers(20, 200))
def test_nothing_is_cut_from_a_table_however_narrow_it_is(rows: list[tuple[str, str, str]], width: int) -> None:
    out = io.StringIO()
    table = plain_table("who", "what", "cost", right=("cost",))
    for row in rows:
        table.add_row(*(text.replace("[", "(") for text in row))
    Console(file=out, width=width).print(table, highlight=False)
    printed = sorted(out.getvalue())
    for character in "".join(text.replace("[", "(") for row in rows for text in row):
        printed.remove(character)


def test_a_pipe_has_room_for_a_whole_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert Screen(file=io.StringIO()).width == WIDTH_WITHOUT_TERMINAL


def test_a_width_that_is_asked_for_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    assert Screen(file=io.StringIO()).width == 72
    monkeypatch.delenv("COLUMNS")
    asked = Screen(file=io.StringIO(), width=90)
    assert asked.width == 90
    asked.width = 50
    assert asked.width == 50


def test_a_terminal_has_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "66")
    monkeypatch.setenv("TERM", "xterm")
    assert Screen(file=io.StringIO(), force_terminal=True).width == 66
