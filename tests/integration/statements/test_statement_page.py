"""The page in a real browser: nothing logged, asked for, cut or hidden, and its numbers are those of SQL."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gatemeter.sinks.reports.money import text_of
from support.browser import Look, Seen, look_at
from support.statements import HOSTILE, LONG, Books

PAGES = {
    "closed": ("acme", "2026-03"),
    "corrected": ("acme", "2026-04"),
    "hostile": (HOSTILE, "2026-03"),
    "reconciled": ("globex", "2026-04"),
}


@pytest.fixture(scope="module")
def looks(hand_out: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Look]:
    folder = tmp_path_factory.mktemp("pages")

    def look(name: str, tenant: str, period: str) -> Look:
        page = folder / f"{name}.html"
        currency = ["--currency", "EUR"] if tenant == "acme" else []
        hand_out("--tenant", tenant, "--period", period, "--output", str(page), *currency)
        return look_at(page)

    return {name: look(name, *of) for name, of in PAGES.items()}


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_logged_and_nothing_is_asked_for(looks: dict[str, Look], name: str) -> None:
    look = looks[name]
    assert (look.logged, [url for url in look.asked_for if not url.startswith("data:")]) == ([], [])
    assert (look.screen.scripts, look.pdf[:5]) == (0, b"%PDF-")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("medium", ["screen", "paper"])
def test_no_text_is_cut_hidden_or_outside(looks: dict[str, Look], name: str, medium: str) -> None:
    seen: Seen = getattr(looks[name], medium)
    assert (seen.cut, seen.outside, seen.over, seen.hidden, seen.broken) == ([], [], [], [], [])


def test_what_would_run_is_text(looks: dict[str, Look], hand_out: Any) -> None:
    assert HOSTILE in looks["hostile"].screen.text
    assert "<b>policy</b>" in looks["closed"].screen.text
    source = hand_out("--tenant", HOSTILE, "--period", "2026-03").stdout
    assert "<script" not in source and "&lt;script&gt;" in source


def test_every_chart_says_its_numbers_as_text(looks: dict[str, Look]) -> None:
    charts = dict(looks["closed"].screen.charts)
    assert {"By component, USD", "By workload, USD", "By workload, JPY"} <= set(charts)
    assert "Tokens 13.44" in charts["By component, USD"]
    assert LONG in charts["By workload, USD"]
    assert "day 31 14.82" in charts["By day of usage (UTC), USD"]


def test_the_amounts_of_a_closed_month_are_what_the_ledger_booked(looks: dict[str, Look], books: Books) -> None:
    booked = books.sql(
        "SELECT sum(token_cost), sum(model_cost), sum(policy_cost), sum(markup), sum(charge) FROM postings"
        " WHERE tenant_id = 'acme' AND posting_period = '2026-03' AND currency = 'USD'"
    )
    names = ("token_cost", "model_cost", "policy_cost", "markup", "total")
    cells = _exact(looks["closed"], "USD")
    assert {name: cells[f"component/{name}"] for name in names} == dict(zip(names, booked[0], strict=True))
    by_app = books.sql(
        "SELECT app_id, sum(charge) FROM postings WHERE tenant_id = 'acme' AND posting_period = '2026-03'"
        " AND currency = 'USD' GROUP BY app_id"
    )
    assert {app: cells[f"app/{app}"] for app, _ in by_app} == dict(by_app)


def test_shown_cents_add_up_to_their_total(looks: dict[str, Look]) -> None:
    for name in PAGES:
        shown: dict[tuple[str, str], dict[str, Decimal]] = {}
        for cell in looks[name].screen.cells:
            group, slash, key = cell["key"].partition("/")
            if cell["exact"] and slash and group != "adjustment":
                shown.setdefault((cell["currency"], group), {})[key] = Decimal(cell["text"].replace(",", ""))
        assert shown
        for group, amounts in shown.items():
            total = amounts.pop("total")
            assert sum(amounts.values()) == total, group


def test_a_correction_of_a_closed_month_is_on_the_statement_that_it_is_booked_in(looks: dict[str, Look]) -> None:
    cells = _exact(looks["corrected"], "USD")
    assert cells["bridge/usage"] == Decimal("0.11")
    assert cells["bridge/earlier"] == Decimal("2.2") - Decimal("0.25") + Decimal("0.0066")
    assert "price of the new contract" in looks["corrected"].screen.text
    assert "run-1" in looks["corrected"].paper.text


def test_what_has_no_price_is_counted_beside_the_amounts(looks: dict[str, Look], books: Books) -> None:
    ((tokens,),) = books.sql(
        "SELECT sum(input_tokens + output_tokens) FROM ledger_entries WHERE price_status = 'unpriced'"
    )
    counted = {cell["text"] for cell in looks["closed"].screen.cells if cell["key"] == "count/unpriced_tokens"}
    assert f"{tokens:,}" in counted


def _exact(look: Look, currency: str) -> dict[str, Decimal]:
    cells = [cell for cell in look.screen.cells if cell["currency"] == currency and cell["exact"]]
    assert all(text_of(int(Decimal(cell["exact"]) * 10**12)) == cell["exact"] for cell in cells)
    return {cell["key"]: Decimal(cell["exact"]) for cell in cells}
