"""Tokens of text: tiktoken's own counts, without a network, for any text; which encoding a model has is data."""

from __future__ import annotations

import gzip
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tiktoken.model import MODEL_PREFIX_TO_ENCODING, MODEL_TO_ENCODING
from tiktoken_ext import openai_public
from tiktoken_ext.openai_public import ENCODING_CONSTRUCTORS

from gatemeter.processors.estimating import counting
from gatemeter.processors.estimating.counting import PATTERNS, PIECE_LENGTH, RANKS_SHA256, count_tokens
from gatemeter.processors.estimating.encodings import BY_PREFIX, DEFAULT, ENCODINGS, encoding_of
from gatemeter.processors.fold.types import LoudStop

SAME_RANKS = {"o200k_harmony": "o200k_base"}
PAGE = (Path(__file__).parents[4] / "docs" / "usage.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("encoding", "text", "tokens"),
    [
        ("o200k_base", "", 0),
        ("o200k_base", "hello world", 2),
        ("cl100k_base", "hello world", 2),
        ("o200k_base", "ChatGPT 漢字 Übergrößenträger 1234567", 14),
        ("cl100k_base", "ChatGPT 漢字 Übergrößenträger 1234567", 18),
    ],
)
def test_counts_are_those_of_tiktoken(encoding: str, text: str, tokens: int) -> None:
    assert count_tokens(text, encoding) == tokens


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_what_looks_like_a_special_token_is_text_like_any_other(encoding: str) -> None:
    assert count_tokens("<|endoftext|>", encoding) > 1
    assert count_tokens("<|endoftext|>" * 3, encoding) > count_tokens("<|endoftext|>", encoding)


def test_encodings_load_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", no_network)
    counting._encoding.cache_clear()
    assert count_tokens("hello world", "cl100k_base") == 2


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_patterns_and_digests_are_tiktokens_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected: list[str] = []

    def not_fetched(_: str, expected_hash: str) -> dict[bytes, int]:
        expected.append(expected_hash)
        return {}

    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", not_fetched)
    assert ENCODING_CONSTRUCTORS[name]()["pat_str"] == PATTERNS[name]
    assert expected == [RANKS_SHA256[name]]


def test_other_bytes_than_ours_stop_the_worker_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Elsewhere:
        def locate_file(self, name: str) -> Path:
            path = tmp_path / name
            path.parent.mkdir(parents=True)
            path.write_bytes(gzip.compress(b"IQ== 0\n"))
            return path

    monkeypatch.setattr(counting, "distribution", lambda _: Elsewhere())
    counting._encoding.cache_clear()
    with pytest.raises(LoudStop, match=r'encoding cl100k_base: .* must have SHA-256 2239.*"gatemeter\[processors\]"'):
        count_tokens("hello", "cl100k_base")
    counting._encoding.cache_clear()


@pytest.mark.parametrize("text", ["a" * 400_000, " " * 400_000, "word " * 80_000, "漢" * 200_000, "\n" * 300_000])
def test_a_long_text_is_counted_in_pieces_and_a_cut_adds_a_token_or_two(text: str) -> None:
    pieces = -(-len(text) // PIECE_LENGTH)
    whole = len(counting._encoding("o200k_base").encode_ordinary(text[: 8 * PIECE_LENGTH]))
    assert whole <= count_tokens(text[: 8 * PIECE_LENGTH], "o200k_base") <= whole + 2 * 8
    assert count_tokens(text, "o200k_base") >= pieces


def test_the_longest_prefix_of_a_model_says_its_encoding() -> None:
    for model in ("gpt-4", "gpt-4-0613", "GPT-4-turbo", "openai/gpt-4", "ft:gpt-4:acme::1", "gpt-35-turbo"):
        assert encoding_of(model) == "cl100k_base", model
    for model in ("gpt-4o-mini", "gpt-4.1", "gpt-5.2", "o3", "claude-sonnet-4-5", "gemini-3-pro", "llama-4", "", "/"):
        assert encoding_of(model) == "o200k_base" == DEFAULT, model


def test_the_map_agrees_with_tiktokens_own_where_that_has_an_encoding_of_ours() -> None:
    theirs = MODEL_TO_ENCODING | MODEL_PREFIX_TO_ENCODING
    ours = {name: encoding_of(name) for name in theirs}
    known = {name: SAME_RANKS.get(encoding, encoding) for name, encoding in theirs.items()}
    assert {name: ours[name] for name in known if known[name] in ENCODINGS} == {
        name: encoding for name, encoding in known.items() if encoding in ENCODINGS
    }


def test_the_page_shows_map_and_versions_which_belong_to_the_fold_release() -> None:
    assert (version("tiktoken"), version("bpe-openai")) == ("0.14.0", "0.1.4")
    for shown in ("tiktoken 0.14.0", "bpe-openai 0.1.4", f"`{DEFAULT}`", *(f"`{prefix}`" for prefix in BY_PREFIX)):
        assert shown in PAGE, shown
