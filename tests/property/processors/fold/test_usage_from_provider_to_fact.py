"""From a provider's answer to the fact, through the emitter's bytes and both folds: what was said stays what was said.

Null, zero and absent stay different, the raw usage object stays verbatim, the mark travels, no token moves.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatemeter.producers.encoding import EventEncoder
from gatemeter.producers.events import FIELDS, ResponseEvent
from gatemeter.producers.usage import Usage, normalise
from gatemeter.producers.validation import spool_form
from support.generated_logs import examples
from support.logs import START_US, Gateway, Log, build, collapse, new_fold, run, standard_view, truth
from support.payloads import recorded, usage_of
from support.usages import FORMULAS

VIEW = build(standard_view())
ABSENT = "absent"
TEXTS = ("service_tier", "served_model", "finish_reason", "provider_request_id", "region")


def folded(usages: list[Usage], *, columnar: bool) -> list[dict[str, Any]]:
    """The fact of each usage, one request each."""
    log = Log()
    log.control(VIEW)
    gateway = Gateway(log)
    encoder = EventEncoder(FIELDS)
    sent = []
    for number, usage in enumerate(usages):
        event = ResponseEvent(
            request_id=f"r{number}", request_started_at=START_US, occurred_at=START_US, status="ok",
            **usage.event_fields(),
        )  # fmt: skip
        sent.append(encoder.encode(spool_form(event)))
    value = gateway.value(sent, 0, 0)
    log.append(value, gateway.headers(value), 0)
    facts = truth(collapse(run(new_fold({1: VIEW}, columnar=columnar), log.records)))
    return [facts["gw-a", f"r{number}", 1] for number in range(len(usages))]


def assert_said(usages: list[Usage]) -> None:
    plain, columnar = folded(usages, columnar=False), folded(usages, columnar=True)
    assert plain == columnar
    for usage, fact in zip(usages, plain, strict=True):
        assert {name: fact[name] for name in usage.quantities} == usage.quantities
        assert fact["usage_raw"] == (usage.usage_raw or "")
        assert fact["usage_source"] == usage.usage_source or not usage.is_known
        stated = usage.consistency if usage.is_known or usage.consistency == "mismatch" else ""
        assert fact["usage_consistency"] == stated
        assert {name: fact[name] for name in TEXTS} == {name: getattr(usage, name) or "" for name in TEXTS}
        assert fact["price_status"] != "no_usage" or not usage.is_known


@pytest.mark.parametrize("shape", sorted({record["shape"] for record in recorded().values()}))
def test_recorded_answers_reach_the_fact_as_they_were_said(shape: str) -> None:
    assert_said([usage_of(record) for record in recorded().values() if record["shape"] == shape])


@st.composite
def answers(draw: st.DrawFn) -> Usage:
    """An answer whose counts are a number, zero, null or not there."""
    shape = draw(st.sampled_from(sorted(FORMULAS)))
    formula = FORMULAS[shape]
    answer = copy.deepcopy(formula.answer({name: draw(st.integers(0, 9)) for name in formula.leaves}))
    _spoil(draw, answer)
    return normalise(shape, answer)


def _spoil(draw: st.DrawFn, part: dict[str, Any]) -> None:
    for key, value in list(part.items()):
        if isinstance(value, dict):
            _spoil(draw, value)
            continue
        kept = draw(st.sampled_from((value, value, value, value, 0, None, ABSENT)))
        if kept == ABSENT:
            del part[key]
        else:
            part[key] = kept


@given(st.lists(answers(), min_size=1, max_size=12))
@examples(30)
def test_null_zero_and_absent_stay_different_to_the_fact(usages: list[Usage]) -> None:
    assert_said(usages)
