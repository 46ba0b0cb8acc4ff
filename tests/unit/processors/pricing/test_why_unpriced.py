"""Why usage has no price: the first thing that no card knows, never a guess."""

from __future__ import annotations

import pytest

from gatemeter.processors.pricing.unpriced import (
    REASONS,
    Lack,
    input_tokens_of,
    used_of,
    why_no_policy_price,
    why_unpriced,
)
from gatemeter.schemas.tables import BUCKETS, METERS
from support.views import ViewBuilder

IN, OUT = "input_text_uncached", "output_text_visible"
VIEW = (
    ViewBuilder()
    .rate("p", "m", {IN: 5, OUT: 7}, from_us=10, to_us=20)
    .rate("p", "m", {IN: 5}, from_us=10, to_us=20, above=100)
    .rate("p", "m", {IN: 5}, service_tier="flex", workload_class="batch")
    .rate("p", "m", {IN: 5}, service_tier="local", workload_class="batch", region="eu")
    .view()
)


def why(key: tuple[str, str, str, str, str], at_us: int, **quantities: int) -> Lack | None:
    event: dict[str, int | None] = {**dict.fromkeys((*BUCKETS, *METERS)), **quantities}
    return why_unpriced(VIEW, key, used_of(event), input_tokens_of(event), at_us)


@pytest.mark.parametrize(
    ("key", "at_us", "quantities", "lack"),
    [
        (("p", "m", "", "realtime", ""), 10, {IN: 100, OUT: 1}, None),
        (("p", "m", "flex", "batch", ""), 99, {IN: 1}, None),
        (("q", "m", "", "realtime", ""), 10, {IN: 1}, Lack("unknown_model")),
        (("p", "M", "", "realtime", ""), 10, {IN: 1}, Lack("unknown_model")),
        (("p", "m", "flexx", "batch", ""), 10, {IN: 1}, Lack("unknown_tier")),
        (("p", "m", "flex", "realtime", ""), 10, {IN: 1}, Lack("unknown_class")),
        (("p", "m", "local", "batch", "eu"), 10, {IN: 1}, None),
        (("p", "m", "local", "batch", "us"), 10, {IN: 1}, Lack("unknown_region")),
        (("p", "m", "local", "batch", ""), 10, {IN: 1}, Lack("unknown_region")),
        (("p", "m", "local", "realtime", "eu"), 10, {IN: 1}, Lack("unknown_class")),
        (("p", "m", "", "realtime", "eu"), 10, {IN: 1}, None),
        (("p", "m", "", "realtime", ""), 9, {IN: 1}, Lack("no_price_then")),
        (("p", "m", "", "realtime", ""), 20, {IN: 1}, Lack("no_price_then")),
        (
            ("p", "m", "", "realtime", ""),
            10,
            {"searches": 2, "input_audio_uncached": 1, IN: 1},
            Lack("bucket_without_price", ("input_audio_uncached", "searches"), 0),
        ),
        (("p", "m", "", "realtime", ""), 10, {IN: 101, OUT: 1}, Lack("bucket_without_price", (OUT,), 100)),
    ],
)
def test_the_reason_names_the_first_thing_that_no_card_knows(
    key: tuple[str, str, str, str, str], at_us: int, quantities: dict[str, int], lack: Lack | None
) -> None:
    assert why(key, at_us, **quantities) == lack
    assert lack is None or lack.reason in REASONS


def test_a_bucket_that_was_not_used_needs_no_price() -> None:
    assert why(("p", "m", "", "realtime", ""), 10, searches=0) is None


def test_a_decision_without_a_price_lacks_its_policy_or_what_it_is_priced_by() -> None:
    view = ViewBuilder().policy("pii", 3, 7).policy("both", 3, 7, pico_per_scanned_token=2).view()
    blank = {"request_started_at": 0, "units": None, "scanned_tokens": None}
    assert why_no_policy_price(view, {**blank, "policy_id": "other"}) == "unknown_policy"
    assert why_no_policy_price(view, {**blank, "policy_id": "pii"}) == "no_units"
    assert why_no_policy_price(view, {**blank, "policy_id": "both", "units": 1}) == "no_scanned_tokens"
