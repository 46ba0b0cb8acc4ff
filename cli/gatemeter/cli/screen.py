"""What commands print on: consoles, and one look of tables in which nothing is cut."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleDimensions
from rich.markup import escape
from rich.table import Table

WIDTH_WITHOUT_TERMINAL: Final = 160
"""Columns of a file or a pipe, which have no width of their own; the variable COLUMNS says another."""


class Screen(Console):
    """A terminal has its own width, anything else room for whole tables."""

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and lines."""
        size = super().size
        if self.is_terminal or self._width is not None or os.environ.get("COLUMNS", "").isdigit():
            return size
        return ConsoleDimensions(WIDTH_WITHOUT_TERMINAL, size.height)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size


def screen(*, stderr: bool = False, soft_wrap: bool = False) -> Screen:
    """A console that colours nothing by guessing. `soft_wrap`: lines are left to the terminal to break."""
    return Screen(stderr=stderr, highlight=False, soft_wrap=soft_wrap)


def cell(text: str) -> str:
    """A text from elsewhere as a cell of a table: it styles nothing, and moves no cursor."""
    return escape("".join(character if character.isprintable() else " " for character in text))


def plain_table(*columns: str, title: str = "", right: Iterable[str] = (), narrow: bool = False) -> Table:
    """A table without lines: what does not fit into a column goes on below it, and is never cut. `right`: columns of
    numbers. `narrow`: no space beside the columns, for tables that fit 80."""
    table = Table(
        title=escape(title) or None,
        box=SIMPLE_HEAD,
        padding=0 if narrow else (0, 1, 0, 0),
        show_edge=False,
        title_justify="left",
    )
    numbers = frozenset(right)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return table
