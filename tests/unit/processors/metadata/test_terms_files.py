"""Files of commitments, exchange rates and budgets: what they say, and what is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.records import entry_of, id_of
from gatemeter.processors.metadata.termsfile import read_budgets_file, read_commitments_file, read_fx_file
from gatemeter.processors.metadata.views import build_view
from gatemeter.processors.metadata.yamlfiles import FileError
from gatemeter.schemas.codec import Decoded, decode, encode
from support.terms import OCTOBER, budget_datum, commitment_datum, rate_datum

EXAMPLES = Path(__file__).parents[4] / "examples"
Read = Callable[[Path], list[Draft]]


def drafts(read: Read, folder: Path, text: str) -> list[Draft]:
    path = folder / "terms.yaml"
    path.write_text(text)
    return read(path)


def test_the_examples_can_be_applied() -> None:
    read = {"commitments": read_commitments_file, "fx": read_fx_file, "budgets": read_budgets_file}
    found = {name: reader(EXAMPLES / f"{name}.yaml") for name, reader in read.items()}
    assert [draft.identity[:2] for draft in found["commitments"]] == [
        ("Commitment", "azure-ptu-sweden"),
        ("Commitment", "anthropic-2026"),
    ]
    assert [draft.identity[1] for draft in found["fx"]] == ["EUR/USD", "EUR/USD"]
    assert [draft.identity[1] for draft in found["budgets"]] == ["retail-banking", "private-clients"]


def test_a_commitment_keeps_its_digits_and_tells_any_tier_from_the_standard_one(tmp_path: Path) -> None:
    head = "{commitment: a, provider: p, effective_from: 2026-10-01, currency: USD, source: order, amount_per_"
    monthly = f"{head.replace('a,', 'b,')}month: 12_000.5, service_tier: standard}}"
    text = f"commitments:\n  - {head}hour: 0.10}}\n  - {monthly}\n"
    hour, month = drafts(read_commitments_file, tmp_path, text)
    assert (hour.datum["amount"], hour.datum["per"], hour.datum["service_tier"]) == ("0.10", "hour", None)
    assert (month.datum["amount"], month.datum["per"], month.datum["service_tier"]) == ("12000.5", "month", "")
    assert hour.datum["effective_from"] == OCTOBER.start_us


def test_terms_are_records_like_any_other_and_change_nothing_that_the_fold_looks_up() -> None:
    datums = {"Commitment": commitment_datum(), "FxRate": rate_datum(), "Budget": budget_datum()}
    records = [decode(encode(name, datum)) for name, datum in datums.items()]
    assert [id_of(record) for record in records] == ["c", "USD/EUR", "b"]
    view, empty = build_view([entry_of(record) for record in records]), build_view([])
    assert (view.boundaries, view.parameters, view.tenants) == (empty.boundaries, empty.parameters, empty.tenants)


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        (read_commitments_file, "commitments: []", "terms.yaml: commitments is missing; it must be a list with at"),
        (read_commitments_file, "commitment: []", "terms.yaml: commitment is not known; known are commitments"),
        (
            read_commitments_file,
            "commitments: [{commitment: a}]",
            "terms.yaml: commitment 'a': either amount_per_hour or amount_per_month must be given",
        ),
        (
            read_commitments_file,
            "commitments: [{commitment: a, amount_per_hour: 1, provider: p, currency: USD, source: s}]",
            "terms.yaml: commitment 'a': effective_from is missing",
        ),
        (
            read_commitments_file,
            "commitments: [{commitment: a, amount_per_hour: -1, provider: p, currency: USD, source: s, "
            "effective_from: 2026-10-01}]",
            "terms.yaml: commitment 'a': amount must be a decimal such as 1250.50, got '-1'",
        ),
        (
            read_fx_file,
            "rates: [{base: USD, quote: EUR, rate: 0, source: s, effective_from: 2026-10-01}]",
            "terms.yaml: rate 1: rate must be above 0",
        ),
        (
            read_fx_file,
            "rates: [&r {base: USD, quote: EUR, rate: 1.5, source: s, effective_from: 2026-10-01}, *r]",
            "terms.yaml: FxRate 'USD/EUR' is there twice with the same effective_from",
        ),
        (
            read_budgets_file,
            "budgets: [{budget: b, amount: 5, currency: USD, owner: o, effective_from: 2026-10-01}]",
            "terms.yaml: budget 'b': either tenant or cost_centre must be given",
        ),
        (
            read_budgets_file,
            "budgets: [{budget: b, tenant: t, amount: 5, currency: USD, owner: o, thresholds: [80, 50], "
            "effective_from: 2026-10-01}]",
            "terms.yaml: budget 'b': thresholds must be 1 to 20 rising whole per cents",
        ),
    ],
)
def test_what_is_wrong_is_named_with_file_and_entry(tmp_path: Path, read: Read, text: str, says: str) -> None:
    with pytest.raises(FileError) as refused:
        drafts(read, tmp_path, text)
    assert str(refused.value).startswith(says)


def test_a_record_out_of_range_is_refused_by_every_worker() -> None:
    with pytest.raises(ValueError, match="per must be one of hour, month"):
        entry_of(Decoded("Commitment", commitment_datum(per="year")))
