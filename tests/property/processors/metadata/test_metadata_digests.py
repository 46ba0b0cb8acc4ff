"""Digests and hashes: same records, same digest; any difference shows; the order of keys does not."""

from __future__ import annotations

import contextlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.processors.metadata.hashing import card_content_hash
from gatemeter.processors.metadata.log import MetadataLog, MetadataRefused

VALUES = st.lists(st.binary(max_size=12), max_size=8)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=12,
)


def log_of(values: list[bytes]) -> MetadataLog:
    log = MetadataLog({})
    for offset, value in enumerate(values):
        with contextlib.suppress(MetadataRefused):
            log.append(offset, value, {})
    return log


@settings(max_examples=200, deadline=None)
@given(VALUES, VALUES)
def test_two_logs_have_the_same_digest_only_with_the_same_records(one: list[bytes], other: list[bytes]) -> None:
    first, second = log_of(one), log_of(other)
    assert (first.digest(len(one)) == second.digest(len(other))) == (one == other)


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_later_records_do_not_change_an_earlier_digest(values: list[bytes]) -> None:
    whole = log_of(values)
    for offset in range(len(values) + 1):
        assert whole.digest(offset) == log_of(values[:offset]).digest(offset) == whole.view(offset).digest


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=6), st.integers())
def test_the_content_hash_ignores_the_order_of_keys_and_itself(content: dict[str, object], seed: int) -> None:
    items = list(content.items())
    random.Random(seed).shuffle(items)
    expected = card_content_hash(content)
    assert card_content_hash(dict(items)) == expected
    assert card_content_hash({**content, "content_hash": "anything"}) == (
        expected if "content_hash" not in content else card_content_hash({**content, "content_hash": ""})
    )
    assert card_content_hash({**content, "one more field": 1}) != expected
