"""Where an INSERT ends and its data begins."""

from __future__ import annotations

import pytest

from gatemeter.sinks.local.statements import data_insert


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (b"INSERT INTO t FORMAT CSV\n1,2", b"1,2"),
        (b"insert into t format CSV\r\n1,2", b"1,2"),
        (b'INSERT INTO t FORMAT JSONEachRow {"a": 1}', b'{"a": 1}'),
        (b"INSERT INTO t FORMAT Native\n\n\x01", b"\n\x01"),
        (b"INSERT INTO t FORMAT CSV;\n1", b"1"),
        (b"INSERT INTO t FORMAT CSV", b""),
        (b"-- FORMAT x\n/* FORMAT\n y */ INSERT INTO `FORMAT z` (`format`, b) FORMAT CSV\n1", b"1"),
        (b"INSERT INTO t SETTINGS format_csv_delimiter = ';', b = 'FORMAT x' FORMAT CSV\n1", b"1"),
        (b"INSERT INTO FUNCTION file('a', 'FORMAT b') FORMAT CSV\n1", b"1"),
        (b"INSERT INTO t (* EXCEPT (format)) FORMAT CSV\n1", b"1"),
        (b"INSERT INTO t FORMAT Native\n'\xff FORMAT x", b"'\xff FORMAT x"),
    ],
)
def test_data_begins_after_the_format(text: bytes, data: bytes) -> None:
    insert = data_insert(text)
    assert insert is not None
    assert text[insert.data_start :] == data


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"SELECT 1 FORMAT CSV",
        b"INSERT INTO t VALUES (1)",
        b"INSERT INTO t SELECT * FROM u FORMAT CSV",
        b"INSERT INTO t WITH 1 AS a SELECT a FORMAT CSV",
        b"INSERT INTO t FROM INFILE 'x' FORMAT CSV",
        b"INSERT INTO t FORMAT",
        b"INSERT INTO t (a",
        b"EXPLAIN INSERT INTO t FORMAT CSV",
        b"'unfinished",
    ],
)
def test_other_statements_are_left_to_the_engine(text: bytes) -> None:
    assert data_insert(text) is None


def test_the_file_goes_before_the_settings() -> None:
    insert = data_insert(b"INSERT INTO t (a, b) SETTINGS x = 1 FORMAT CSV\n1")
    assert insert is not None
    words = " ".join(insert.from_file("/d/f").split())
    assert words == "INSERT INTO t (a, b) FROM INFILE '/d/f' COMPRESSION 'none' SETTINGS x = 1 FORMAT CSV"
