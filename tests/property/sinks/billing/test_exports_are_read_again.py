"""Made-up lines, written as each provider writes them, are read again: same days, names, quantities and amounts."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.sinks.billing import BillingLine
from support.billing import imported
from support.depth import depth

from benchmarks import exports  # isort: skip
from benchmarks.exports import Line  # isort: skip

FIRST = date(2026, 11, 1)
TEXT = ("input_text_uncached", "input_text_cache_read", "output_total")
FIELDS = (
    *("project", "key_id", "model", "token_type", "service_tier", "workload_class", "charge_category", "charge_class"),
    "currency",
)


@dataclass(frozen=True)
class Case:
    """What a format can say."""

    form: str
    write: Callable[[Path, Sequence[Line]], None]
    name: str
    models: tuple[str, ...]
    tokens: tuple[str, ...]
    tiers: tuple[str, ...] = ("",)
    categories: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    digits: int = 24
    usage: bool = False


AUDIO = ("input_audio_uncached", "output_audio_visible")
OPENAI = ("gpt-5.5-2026-04-23", "gpt-4o-mini-2024-07-18", "o3")
CLAUDE = ("claude-sonnet-4-20250514", "claude-opus-5")
OTHERS = ("tax", "credit", "fee", "rounding", "adjustment")
CASES = (
    Case("openai-costs", exports.write_openai_costs, "costs.json", OPENAI, (*TEXT, *AUDIO, "input_text_cache_write_5m"),
         ("", "priority", "flex"), (*OTHERS, "commitment")),
    Case("openai-csv", exports.write_openai_csv, "costs.csv.gz", OPENAI, (*TEXT, *AUDIO), ("", "priority"), OTHERS),
    Case("openai-usage", exports.write_openai_usage, "usage.json", OPENAI,
         (*TEXT, *AUDIO, "input_text_cache_write_5m", "input_image_cache_read"), ("", "priority"), usage=True),
    Case("anthropic-cost", exports.write_anthropic_cost, "cost.json.gz", CLAUDE,
         (*TEXT, "input_text_cache_write_5m", "input_text_cache_write_1h"), categories=OTHERS, without=("key_id",)),
    Case("anthropic-usage", exports.write_anthropic_usage, "usage.json", CLAUDE,
         (*TEXT, "input_text_cache_write_5m", "input_text_cache_write_1h", "searches"), ("", "priority"), usage=True),
    Case("aws-cur", exports.write_aws_cur, "cur.parquet",
         ("anthropic.claude-sonnet-4-20250514-v1:0", "amazon.nova-pro-v1:0", "openai.gpt-oss-120b"),
         (*TEXT, "input_text_cache_write_5m"), ("", "priority", "flex"), ("tax", "credit", "fee", "commitment"),
         digits=14),
    Case("focus", exports.write_focus_azure, "azure.csv", ("gpt-4o-2024-11-20", "gpt-4.1-mini", "o3-2025-04-16"),
         (*TEXT, *AUDIO), categories=(*OTHERS, "commitment")),
    Case("focus", exports.write_focus_google, "google.csv.gz", ("gemini-2.5-pro", "gemini-2.5-flash-lite"),
         (*TEXT, *AUDIO, "output_image_visible"), categories=(*OTHERS, "commitment")),
)  # fmt: skip


def lines_of(case: Case) -> st.SearchStrategy[list[Line]]:
    """Lines that the format can say; of counters none twice, since they are added up."""
    amount = st.integers(-(10 ** min(case.digits, 20)), 10**case.digits).map(lambda pico: Decimal(pico).scaleb(-12))
    who = {
        "project": st.sampled_from(["", "p-1", "p-2"]),
        "key_id": st.just("") if "key_id" in case.without else st.sampled_from(["", "key_1", "key_2"]),
    }
    day = st.integers(0, 29).map(lambda offset: FIRST + timedelta(days=offset))
    counted = st.builds(
        Line,
        day,
        st.sampled_from(case.models),
        st.sampled_from(case.tokens),
        quantity=st.integers(1, 10**11),
        amount=st.none() if case.usage else amount,
        service_tier=st.sampled_from(case.tiers),
        **who,
    )
    batch = st.builds(
        Line,
        day,
        st.sampled_from(case.models),
        st.sampled_from(case.tokens),
        quantity=st.integers(1, 10**11),
        amount=st.none() if case.usage else amount,
        workload_class=st.just("batch"),
        **who,
    )
    kinds: list[st.SearchStrategy[Line]] = [counted, batch]
    if case.categories:
        kinds.append(st.builds(Line, day, charge_category=st.sampled_from(case.categories), amount=amount, **who))
    unique = (lambda line: (line.day, *(getattr(line, name) for name in FIELDS))) if case.usage else None
    return st.lists(st.one_of(kinds), min_size=1, max_size=12, unique_by=unique)


def meaning(line: Line | BillingLine, case: Case) -> tuple[Any, ...]:
    """What must come back. Anthropic's costs and counters have no quantity, or no amount and currency."""
    day = line.billing_day if isinstance(line, BillingLine) else line.day
    fields = [getattr(line, name) for name in FIELDS if not (case.usage and name == "currency")]
    quantity = None if case.form == "anthropic-cost" else line.quantity
    return (day, *fields, quantity, line.amount)


def written(case: Case, lines: Sequence[Line], folder: str) -> Path:
    path = Path(folder) / case.name
    case.write(path, lines)
    return path


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.form} {case.name}")
@settings(max_examples=depth(20, 500))
@given(data=st.data())
def test_lines_come_back_as_they_were(case: Case, data: st.DataObject) -> None:
    lines = data.draw(lines_of(case))
    with tempfile.TemporaryDirectory() as folder:
        found = imported(case.form, written(case, lines, folder))
    assert found.rejected == []
    assert found.outcome.rounded == 0
    assert Counter(meaning(line, case) for line in found.lines) == Counter(meaning(line, case) for line in lines)
    assert _sum(found.lines) == _sum(lines)
    assert {line.day for line in lines} <= {covered.billing_day for covered in found.outcome.covered}


def _sum(lines: Iterable[Line | BillingLine]) -> Decimal:
    pico = sum(int((line.amount or Decimal(0)).scaleb(12)) for line in lines)
    return Decimal(pico)
