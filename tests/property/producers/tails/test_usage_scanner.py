"""The Lua filter of `examples/envoy` reads what a JSON parser reads, wherever the pieces of an answer are cut."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import lupa.luajit21 as lua
from hypothesis import given
from hypothesis import strategies as st

FILTER = Path(__file__).parents[4] / "examples" / "envoy" / "usage.lua"
HANDLE = """
-- What Envoy gives a filter, as far as this one uses it.
return function(pieces, body, kind)
  local said, headers = {}, {[":status"] = "200", [":method"] = "POST", [":path"] = "/v1/chat/completions?x=1",
                             ["content-type"] = kind}
  local function buffer(text)
    return {length = function() return #text end,
            getBytes = function(_, at, size) return text:sub(at + 1, at + size) end,
            setBytes = function(_, new) said["body"] = new return #new end}
  end
  local handle = {}
  function handle:headers()
    return {get = function(_, name) return headers[name] end, replace = function(_, name, value) said[name] = value end}
  end
  function handle:body() return buffer(body) end
  function handle:bodyChunks()
    local number = 0
    return function() number = number + 1 if pieces[number] then return buffer(pieces[number]) end end
  end
  function handle:streamInfo()
    return {dynamicMetadata = function()
      return {set = function(_, namespace, name, value) said[name] = value end}
    end}
  end
  return handle, said
end
"""
KEYS = ["id", "model", "usage", "response", "message", "choices", "finish_reason", "status", "error", "delta", "x"]
SCALARS = st.none() | st.booleans() | st.integers(-9, 9**9) | st.text(max_size=12)
VALUES = st.recursive(
    SCALARS | st.sampled_from(['"usage": {"a": 1}', '\\"', "{", "}", "[", "]", ",", ":", "data: "]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=25,
)
DOCUMENTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5)


@functools.cache
def loaded() -> tuple[Any, Any]:
    """A Lua with the filter in it, as a thread of Envoy has; and what makes a handle."""
    runtime = lua.LuaRuntime(encoding=None)
    runtime.execute(FILTER.read_bytes())
    return runtime, runtime.execute(HANDLE.encode())


def filtered(pieces: list[bytes], body: bytes = b"", *, kind: str = "application/json") -> dict[str, Any]:
    """What the filter puts into the metadata, and what it does to the request."""
    runtime, make = loaded()
    handle, said = make(runtime.table_from(pieces), body, kind.encode())
    runtime.globals()[b"envoy_on_request" if body else b"envoy_on_response"](handle)
    return {name.decode(): value for name, value in said.items()}


def at(document: Any, path: str) -> list[Any]:
    """All values at a path; the elements of an array have the array's path, those of an array in an array none."""
    found = [document]
    for key in path.split("."):
        flat = [inner for value in found for inner in (value if isinstance(value, list) else [value])]
        found = [value[key] for value in flat if isinstance(value, dict) and key in value]
    return found


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data cut at places drawn as shares of it."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]


PATHS = {
    "id": ("id", "message.id", "response.id"),
    "usage": ("usage", "response.usage"),
    "start_usage": ("message.usage",),
    "finish_reason": ("choices.finish_reason", "delta.stop_reason", "status", "response.status"),
}


def expected(document: dict[str, Any]) -> dict[str, list[bytes]]:
    """For each name, what the metadata may hold: any of the values at its paths, written as JSON."""
    allowed: dict[str, list[bytes]] = {}
    for name, paths in PATHS.items():
        values = [value for path in paths for value in at(document, path) if value is not None]
        texts = [json.dumps(value).encode() for value in values]
        if name not in ("usage", "start_usage"):
            texts = [text[1:-1] if text[:1] == b'"' else text for text in texts]
            texts = [text for text in texts if b"\\" not in text and len(text) <= 256]
        allowed[name] = texts
    return allowed


@given(DOCUMENTS, st.lists(st.integers(0, 10_000), max_size=6))
def test_what_is_copied_is_what_stands_at_its_path(document: dict[str, Any], cuts: list[int]) -> None:
    said = filtered(pieces_of(json.dumps(document).encode(), cuts))
    for name, texts in expected(document).items():
        if texts:
            assert said.get(name) in texts, (name, said)
        else:
            assert name not in said


@given(st.lists(DOCUMENTS, min_size=1, max_size=4), st.lists(st.integers(0, 10_000), max_size=6))
def test_events_of_a_stream_are_read_one_by_one_and_the_last_word_counts(
    documents: list[dict[str, Any]], cuts: list[int]
) -> None:
    data = b"".join(b"event: x\ndata: " + json.dumps(document).encode() + b"\n\n" for document in documents)
    said = filtered(pieces_of(data + b"data: [DONE]\n\n", cuts), kind="text/event-stream; charset=utf-8")
    for name in ("usage", "start_usage"):
        last = next((texts for document in documents[::-1] if (texts := expected(document)[name])), None)
        if last is None:
            assert name not in said
        else:
            assert said.get(name) in last


@given(st.lists(DOCUMENTS, min_size=1, max_size=5), st.booleans(), st.integers(1, 3))
def test_an_event_that_is_passed_over_would_have_said_nothing_new(
    documents: list[dict[str, Any]], is_spaced: bool, at_once: int
) -> None:
    begun = {"id": "chatcmpl-1", "model": "m", "usage": None, "choices": [{"finish_reason": None}]}
    events = [b"data: " + json.dumps(document).encode() + b"\n\n" for document in [begun, *documents]]
    if is_spaced:
        events = [event.replace(b'": ', b'" :  ') for event in events]
    pieces = [b"".join(events[at : at + at_once]) for at in range(0, len(events), at_once)]
    whole, each = (filtered(parts, kind="text/event-stream") for parts in ([b"".join(events)], pieces))
    for name in ("usage", "start_usage", "finish_reason", "error"):
        assert each.get(name) == whole.get(name)


@given(st.lists(st.sampled_from([b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"usage", b"id", b" ", b"1"])))
def test_what_is_no_json_never_breaks_the_filter(parts: list[bytes]) -> None:
    filtered(parts)
    filtered([], b"".join(parts) or b"{")


def test_an_answer_that_opens_without_end_takes_no_memory() -> None:
    runtime = lua.LuaRuntime(encoding=None, max_memory=2_000_000)
    runtime.execute(FILTER.read_bytes())
    make = runtime.execute(HANDLE.encode())
    for piece in (b"[" * 1000, b'{"x":' * 1000, b'{"usage":[' * 1000, b'"' + b"k" * 1000):
        handle, _ = make(runtime.table_from([piece] * 1000), b"", b"application/json")
        runtime.globals()[b"envoy_on_response"](handle)


@given(
    st.dictionaries(st.sampled_from(["messages", "tools", "x"]), VALUES, max_size=3),
    st.sampled_from(
        [None, {}, {"include_usage": False}, {"include_usage": True}, {"a": 1}, {"a": {}, "include_usage": False}]
    ),
    st.sampled_from([True, False, None]),
    st.sampled_from([None, 1]),
)
def test_a_stream_is_asked_for_its_usage_and_nothing_else_of_a_request_changes(
    document: dict[str, Any], options: dict[str, Any] | None, stream: bool | None, indent: int | None
) -> None:
    asked = {**document, "model": "gpt-4o"}
    asked |= {} if stream is None else {"stream": stream}
    asked |= {} if options is None else {"stream_options": options}
    body = json.dumps(asked, indent=indent).encode()
    said = filtered([], body)
    assert said["model"] == b"gpt-4o"
    changed = json.loads(said.get("body", body))
    wanted = {**(options or {}), "include_usage": True}
    assert changed == ({**asked, "stream_options": wanted} if stream else asked)
    assert int(said.get("content-length", len(body))) == len(said.get("body", body))
