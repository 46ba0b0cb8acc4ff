"""Traces are read exactly, bad lines are named, and time passes as chosen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from gatemeter.cli.emit import emit, parse_speed
from gatemeter.producers.events import Event, RequestEvent, ResponseEvent
from gatemeter.producers.settings import SettingsError
from gatemeter.producers.traces import TraceError, TraceRow, csv_events, read_csv, read_jsonl, replay, shifted

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def test_a_csv_row_becomes_a_request_and_its_response(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HEADER + "2023-11-16 18:17:03.9799600,4808,10\n1970-01-01 00:00:01,0,0\n")
    rows = list(read_csv(path))
    assert rows == [TraceRow(1_700_158_623_979_960, 4808, 10), TraceRow(1_000_000, 0, 0)]
    asked, answered, *_ = csv_events(rows, tenant_id="acme")
    assert isinstance(asked, RequestEvent) and isinstance(answered, ResponseEvent)
    assert asked.request_id == answered.request_id
    assert (answered.input_text_uncached, answered.output_text_visible, answered.tenant_id) == (4808, 10, "acme")


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        (read_csv, "a,b\n", "line 1: must be TIMESTAMP,ContextTokens,GeneratedTokens, got a,b"),
        (read_csv, HEADER + "yesterday,1,2\n", "line 2: must be a time like"),
        (read_csv, HEADER + "2023-11-16 18:17:03,1\n", "line 2: must be a time like .* got 2023-11-16 18:17:03,1"),
        (read_jsonl, "[1]\n", "line 1: must be a JSON object"),
        (read_jsonl, '\n{"kind": "GREETING"}\n', "line 2: kind: must be one of REQUEST, RESPONSE, POLICY"),
        (read_jsonl, '{"kind": "REQUEST", "colour": 1}\n', "colour: not a field"),
        (read_jsonl, '{"kind": "REQUEST", "request_id": "r"}\n', "line 1: .*request_started_at"),
        (
            read_jsonl,
            '{"kind": "REQUEST", "request_id": "r", "request_started_at": 1, "attempt": 0}\n',
            "line 1: REQUEST.attempt: must be an integer of 1 to 65535, got 0",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, reader: Callable[[Path], object], text: str, message: str) -> None:
    (tmp_path / "t").write_text(text)
    with pytest.raises(TraceError, match=message):
        list(reader(tmp_path / "t"))  # type: ignore[call-overload]


def test_jsonl_holds_events_of_every_kind(tmp_path: Path) -> None:
    lines = [
        {"kind": "REQUEST", "request_id": "r", "request_started_at": 5, "occurred_at": 5},
        {
            "kind": "POLICY",
            "request_id": "r",
            "request_started_at": 5,
            "decision_id": "d",
            "policy_id": "p",
            "outcome": "deny",
        },
    ]
    (tmp_path / "t").write_text("\n".join(map(json.dumps, lines)))
    first, second = read_jsonl(tmp_path / "t")
    assert type(first).__name__ == "RequestEvent" and type(second).__name__ == "PolicyEvent"
    assert [event.occurred_at for event in shifted([first], 100)] == [105]


@pytest.mark.parametrize(("speed", "waits"), [(1.0, [2.0, 4.0]), (4.0, [0.5, 1.0]), (None, [])])
def test_events_are_sent_when_they_are_due(speed: float | None, waits: list[float]) -> None:
    times = [1_000_000, 3_000_000, 3_000_000, 7_000_000]
    events = [RequestEvent(request_id="r", request_started_at=at, occurred_at=at) for at in times]
    slept: list[float] = []
    sent: list[Event] = []
    count = replay(events, sent.append, first_us=1_000_000, speed=speed, sleep=slept.append, clock=lambda: sum(slept))
    assert (count, sent, slept) == (4, events, waits)


def test_speeds() -> None:
    assert [parse_speed(text) for text in ("real", "max", "x60", "x0.5")] == [1.0, None, 60.0, 0.5]
    for text in ("fast", "x0", "x-1", "xnan"):
        with pytest.raises(SettingsError, match=r"--speed: must be real, max or x0.001 to x1000000"):
            parse_speed(text)


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("t.csv", b"\xff\xfe\x00", "", "must be CSV or JSONL in UTF-8"),
        ("t.csv", HEADER.encode(), "", "must hold at least one event"),
        ("t.jsonl", b'{"kind": "REQUEST"}', "", "line 1: Missing required argument"),
        (
            "t.csv",
            HEADER.encode() + b"2023-11-16 18:17:03,1,2\n",
            "--speed fast",
            "--speed: must be real, max or x0.001",
        ),
        ("t.csv", HEADER.encode() + b"2023-11-16 18:17:03,1,2\n", "", "has no secret for key id 'gw-1'"),
    ],
)
def test_the_command_ends_with_one_line_where_it_cannot_begin(
    tmp_path: Path, name: str, content: bytes, options: str, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "secrets.json").write_text("{}")
    app = Typer()
    app.command()(emit)
    command = f"{tmp_path / name} --gateway gw --kid gw-1 --secrets {tmp_path}/secrets.json {options}"
    result = CliRunner().invoke(app, command.split())
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr
