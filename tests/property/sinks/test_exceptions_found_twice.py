"""Ids of exceptions: the same for the same subject and day whatever was seen, another for any other."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.sinks.exceptions.kinds import KINDS, SEVERITIES, Finding

NAMES = ("tenant_id", "app_id", "workload_id", "credential_fingerprint", "provider", "model", "subject")
text = st.text(max_size=8)
BASE = Finding(
    *("burst", "low", date(2026, 3, 16), "acme", "chat", "w", "c", "openai", "gpt", "s"),
    *(0, 1, "seen", "expected", ("r",), 1, None, ""),
)


@given(
    severity=st.sampled_from(SEVERITIES),
    seen=text,
    requests=st.integers(1, 10**9),
    cost=st.none() | st.decimals(0, 10**6, places=6),
)
def test_what_was_seen_is_not_in_the_id(severity: str, seen: str, requests: int, cost: Decimal | None) -> None:
    again = replace(BASE, severity=severity, seen=seen, requests=requests, cost=cost, last_seen_us=requests)
    assert again.exception_id == BASE.exception_id


@given(name=st.sampled_from(NAMES), value=text, kind=st.sampled_from(KINDS), days=st.integers(-400, 400))
def test_another_subject_kind_or_day_is_another_exception(name: str, value: str, kind: str, days: int) -> None:
    other = replace(BASE, kind=kind, period=BASE.period + timedelta(days=days), **{name: value})
    same = (other.kind, other.period, getattr(other, name)) == (BASE.kind, BASE.period, getattr(BASE, name))
    assert (other.exception_id == BASE.exception_id) is same


@given(first=text, second=text)
def test_texts_do_not_run_into_each_other(first: str, second: str) -> None:
    one, two = replace(BASE, tenant_id=first + second, app_id=""), replace(BASE, tenant_id=first, app_id=second)
    assert (one.exception_id == two.exception_id) is (second == "")
