"""Entries by hand: decimal text becomes exact amounts, and the total follows from its components."""

from __future__ import annotations

import pytest

from gatemeter.processors.corrections.adjust import Manual, amount_of, free_entry, replacing_row
from gatemeter.processors.corrections.rows import CorrectionError, CorrectionRow, RowKey
from gatemeter.processors.corrections.truths import Truth
from support.facts import NOON_US, decision, fact


@pytest.mark.parametrize(
    ("text", "pico"),
    [
        ("12.5", 12_500_000_000_000),
        ("-0.000000000001", -1),
        ("0", 0),
        ("1e3", 10**15),
        ("9223372.036854775807", 2**63 - 1),
        ("1.0000000000000000", 10**12),
    ],
)
def test_amounts_are_decimal_text(text: str, pico: int) -> None:
    assert amount_of("--markup", text) == pico


@pytest.mark.parametrize(
    "text", ["", "1,5", "nan", "inf", "9223372.036854775808", "0.0000000000001", "1e99", "1e-400000", "٣ USD"]
)
def test_what_is_no_exact_amount_is_refused(text: str) -> None:
    with pytest.raises(CorrectionError) as refused:
        amount_of("--markup", text)
    accepted = "a decimal number within ±9223372.036854775807 with at most 12 decimals"
    assert str(refused.value) == f"--markup must be {accepted}, got {text!r}"


def manual(**changes: object) -> Manual:
    values: dict[str, object] = {"reason": "credit", "amounts": {"markup": -5}, "attribution": {"tenant_id": "acme"}}
    return Manual(**({"currency": "USD"} | values | changes))  # type: ignore[arg-type]


def test_a_free_entry_adds_up() -> None:
    given = {"token_cost": 7, "policy_cost": 2, "markup": -4, "absorbed": 3}
    row = free_entry("run", NOON_US, manual(amounts=given, absorbed_to="goodwill"))
    assert (row.provider_cost, row.charge, row.list_cost, row.absorbed_to) == (9, 2, 9, "goodwill")
    assert (row.kind, row.tenant_id, row.app_id, row.price_status, row.cause) == (
        "free",
        "acme",
        None,
        "priced",
        "manual",
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"attribution": {}}, "--tenant must be given for an entry of its own"),
        ({"amounts": {}}, "at least one amount must be given: --list-cost, --token-cost, --model-cost, --policy-cost"),
        ({"currency": "usd"}, "--currency must be an ISO 4217 code such as USD, got 'usd'"),
        ({"amounts": {"absorbed": 1}}, "--absorbed-to must name the cost centre of what is absorbed"),
        ({"reason": ""}, "reason must be 1 to 1000 characters, got ''"),
    ],
)
def test_an_entry_that_is_not_complete_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(CorrectionError) as refused:
        free_entry("run", NOON_US, manual(**changes))
    assert str(refused.value).startswith(says)


def truth(replacement: CorrectionRow | None = None, **changes: object) -> Truth:
    row = fact("r1", **changes)
    return Truth(RowKey("usage", "gw", "r1", 1, row["response_hash"]), row, replacement)


def test_amounts_that_are_not_given_stay() -> None:
    row = replacing_row("run", truth(), manual(amounts={"markup": 1}, attribution={}, currency=""))
    assert (row.token_cost, row.markup, row.charge, row.list_cost) == (30, 1, 31, 40)
    assert (row.currency, row.tenant_id, row.usage_hour) == ("USD", None, NOON_US)


def test_an_attribution_alone_keeps_all_amounts_unknown_ones_too() -> None:
    unpriced = dict.fromkeys(("list_cost", "provider_cost", "token_cost", "model_cost", "policy_cost", "markup"))
    unpriced |= {"absorbed": None, "charge": None, "price_status": "unpriced"}
    who = manual(amounts={}, attribution={"tenant_id": "globex", "app_id": ""})
    row = replacing_row("run", truth(**unpriced), who)
    assert (row.tenant_id, row.app_id, row.charge, row.price_status) == ("globex", None, None, "unpriced")
    priced = replacing_row("run", truth(**unpriced), manual(amounts={"token_cost": 8}))
    assert (priced.charge, priced.list_cost, priced.price_status) == (8, 8, "priced")


def test_what_stands_on_an_earlier_correction_keeps_it() -> None:
    first = replacing_row("one", truth(), manual(amounts={"markup": 1}, attribution={"cost_centre": "cc-9"}))
    second = replacing_row("two", truth(first), manual(amounts={"model_cost": 4}, attribution={}))
    assert (second.markup, second.model_cost, second.cost_centre, second.charge) == (1, 4, "cc-9", 35)


def test_another_currency_needs_all_amounts() -> None:
    with pytest.raises(CorrectionError, match="--currency: all amounts must be given where it changes from USD"):
        replacing_row("run", truth(), manual(currency="EUR"))


def test_a_policy_cost_is_a_providers_unless_the_platform_bills_it() -> None:
    given = {"policy_cost": 7, "markup": 1, "cache_price": 2}
    row = free_entry("run", NOON_US, manual(amounts=given))
    assert (row.provider_cost, row.cache_price, row.charge) == (7, 2, 10)
    row = free_entry("run", NOON_US, manual(amounts=given, internal=True))
    assert (row.provider_cost, row.list_cost, row.charge) == (0, 0, 10)


@pytest.mark.parametrize(("billed_by", "internal", "provider"), [("internal", None, 0), ("aws", None, 9)])
def test_the_policy_cost_of_a_decision_stays_the_platforms_or_its_providers(
    billed_by: str, internal: bool | None, provider: int
) -> None:
    row = decision("d", "r", billed_by=billed_by, prices_id="guards")
    truth = Truth(RowKey("decision", "gw", "d", 0, "d"), row)
    made = replacing_row("run", truth, manual(amounts={"policy_cost": 9}, attribution={}, currency=""))
    assert (made.provider_cost, made.policy_cost, made.charge) == (provider, 9, 10)
    other = replacing_row("run", truth, manual(amounts={"policy_cost": 9}, internal=provider != 0, currency=""))
    assert other.provider_cost == 9 - provider


def test_what_a_hit_avoided_stays_where_its_price_is_set_by_hand() -> None:
    row = fact("r", gateway_cache="exact", cache_price=5, charge=5, avoided_provider_cost=30, avoided_charge=33)
    row |= dict.fromkeys(("list_cost", "provider_cost", "token_cost", "markup"), 0)
    truth = Truth(RowKey("usage", "gw", "r", 1, "r-1"), row)
    made = replacing_row("run", truth, manual(amounts={"cache_price": 1}, attribution={}))
    assert (made.charge, made.avoided_provider_cost, made.avoided_charge) == (1, 30, 33)
    everything = {"token_cost": 0, "model_cost": 0, "policy_cost": 0, "markup": 0, "absorbed": 0}
    with pytest.raises(CorrectionError, match="all amounts must be given"):
        replacing_row("run", truth, manual(amounts=everything, currency="EUR"))
    euros = replacing_row("run", truth, manual(amounts=everything | {"cache_price": 1}, currency="EUR"))
    assert (euros.charge, euros.avoided_charge) == (1, None)
