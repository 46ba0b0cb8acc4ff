"""Rows of a file, one at a time: of CSV, of JSON (one array, or one object after the other), of Parquet.

What a row is numbered by: its first line in CSV and JSON lines, its place from 1 in one JSON array and in Parquet.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from gatemeter.sinks.billing.errors import BadRow, FileBroken
from gatemeter.sinks.billing.opening import Kind
from gatemeter.sinks.billing.values import Values, check_text

MAX_DOCUMENT: Final = 64 * 2**20
"""Characters of one JSON object: a page of an API is one."""

_READ: Final = 1 << 20
_BATCH: Final = 5_000


@dataclass(frozen=True, slots=True)
class Row:
    """A row, or why there is none: then `values` is what can be shown of it."""

    line: int
    values: Values
    bad: BadRow | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """`columns` are those of the file, None where each row has its own (JSON)."""

    columns: tuple[str, ...] | None
    rows: Iterator[Row]


def table_of(path: Path, kind: Kind, text: TextIOWrapper | None, limit: int) -> Table:
    """Rows of a file that has been opened as text (CSV, JSON) or not (Parquet). Raises `FileBroken`."""
    if kind == "parquet" or text is None:
        return _parquet(path, limit)
    if kind == "csv":
        return _csv(path.name, text)
    return Table(None, _json_rows(path.name, text))


def _csv(name: str, text: TextIOWrapper) -> Table:
    reader = csv.reader(text, strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
    except csv.Error as error:
        raise FileBroken(f"{name}: line 1: cannot be read as CSV: {error}") from error
    twice = sorted({column for column in header if header.count(column) > 1 and column})
    if twice:
        raise FileBroken(f"{name}: line 1: columns must have names of their own, {', '.join(twice)} is there twice")
    return Table(tuple(header), _csv_rows(reader, header))


def _csv_rows(reader: Any, header: list[str]) -> Iterator[Row]:
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Row(line, {}, BadRow("row", f"cannot be read as CSV: {error}"))
            continue
        if cells is None:
            return
        if not cells:
            continue
        values = dict(zip(header, cells, strict=False))
        if len(cells) != len(header):
            reason = f"must have {len(header)} columns as the first line has, got {len(cells)}"
            yield Row(line, values, BadRow("row", reason))
            continue
        if not "".join(cells).isascii():
            try:
                check_text(values)
            except BadRow as error:
                yield Row(line, {}, error)
                continue
        yield Row(line, values)


def _json_rows(name: str, text: TextIOWrapper) -> Iterator[Row]:
    for line, document in documents(name, text):
        if not isinstance(document, dict):
            yield Row(line, {}, BadRow("row", f"must be a JSON object, got {type(document).__name__}"))
            continue
        try:
            check_text(document)
        except BadRow as error:
            yield Row(line, {}, error)
            continue
        yield Row(line, document)


def _parquet(path: Path, limit: int) -> Table:
    try:
        file = pq.ParquetFile(path)
        size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
    except (pa.ArrowException, OSError) as error:
        raise FileBroken(f"{path.name}: cannot be read as Parquet: {_first_line(error)}") from error
    if size > limit:
        raise FileBroken(f"{path.name}: unpacks to more than {limit:,} bytes; --max-unpacked-mib allows more")
    return Table(tuple(file.schema_arrow.names), _parquet_rows(path.name, file))


def _parquet_rows(name: str, file: pq.ParquetFile) -> Iterator[Row]:
    line = 0
    with file:
        try:
            for batch in file.iter_batches(batch_size=_BATCH):
                for values in batch.to_pylist():
                    line += 1
                    yield Row(line, values)
        except (pa.ArrowException, OSError) as error:
            raise FileBroken(f"{name}: row {line + 1}: cannot be read as Parquet: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]


def documents(name: str, text: TextIOWrapper) -> Iterator[tuple[int, Any]]:
    """The JSON values of a file: elements of its array, or values that follow each other. Numbers with a point become
    decimals. Raises `FileBroken` where it is no JSON, or ends in the middle."""
    yield from _Documents(name, text).read()


class _Documents:
    """Decodes value by value from a buffer that holds one value, and one read more, at a time."""

    def __init__(self, name: str, text: TextIOWrapper) -> None:
        self._name, self._text = name, text
        self._decoder = json.JSONDecoder(parse_float=Decimal, parse_constant=self._constant)
        self._buffer, self._at, self._line, self._ended = "", 0, 1, False

    def read(self) -> Iterator[tuple[int, Any]]:
        in_array = self._next() == "["
        if in_array:
            self._at += 1
        number = 0
        while True:
            character = self._next()
            if in_array and character == "]":
                self._at += 1
                if self._next():
                    self._wrong("something follows its array")
                return
            if not character:
                if in_array:
                    self._wrong("its array has no end")
                return
            if in_array and number:
                if character != ",":
                    self._wrong("a comma is missing")
                self._at += 1
                self._next()
            number += 1
            line = self._line
            yield (number if in_array else line), self._value()

    def _next(self) -> str:
        """The next character that is no space; '' at the end."""
        while True:
            while self._at < len(self._buffer):
                character = self._buffer[self._at]
                if character not in " \t\r\n":
                    return character
                self._line += character == "\n"
                self._at += 1
            if not self._more():
                return ""

    def _value(self) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except RecursionError:
                self._wrong("it is nested too deeply")
            except json.JSONDecodeError as error:
                if self._more(grow=True):
                    continue
                self._wrong(f"is cut off or no JSON: {error.msg}")
            else:
                if end == len(self._buffer) and self._more(grow=True):
                    continue  # a number may go on
                self._line += self._buffer.count("\n", self._at, end)
                self._at = end
                return value

    def _more(self, *, grow: bool = False) -> bool:
        """Reads on; `grow`: as much again as is held, so that a long value is decoded a few times only."""
        if self._ended:
            return False
        held = len(self._buffer) - self._at
        if held > MAX_DOCUMENT:
            self._wrong(f"one JSON value is longer than {MAX_DOCUMENT:,} characters: ask for smaller pages")
        read = self._text.read(max(_READ, held) if grow else _READ)
        self._ended = not read
        self._buffer, self._at = self._buffer[self._at :] + read, 0
        return bool(read)

    def _constant(self, text: str) -> NoReturn:
        self._wrong(f"{text} is no number of JSON")

    def _wrong(self, what: str) -> NoReturn:
        raise FileBroken(f"{self._name}: line {self._line}: {what}")
