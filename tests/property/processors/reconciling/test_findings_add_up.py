"""Whatever differs, whatever the rules make of it: the findings of a key add up to its variance, to the last digit."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.processors.reconciling.amounts import findings, variance
from gatemeter.processors.reconciling.sides import Invoiced, Key, Metered, Sides, Tolerances
from gatemeter.sinks.reports.dividing import divide
from support.reconciled import INPUT, OUTPUT, around, both, key

AMOUNTS = st.integers(0, 10**15)
KEYS = st.builds(
    key,
    day=st.integers(1, 4),
    token_type=st.sampled_from([INPUT, OUTPUT]),
    model=st.sampled_from(["gpt-4o", "o3"]),
    workload_class=st.sampled_from(["realtime", "batch"]),
)
METERED = st.builds(
    Metered,
    quantity=st.integers(0, 2_000),
    cost=AMOUNTS,
    estimated=st.integers(0, 500),
    twice=st.integers(0, 300),
    by_hour=st.dictionaries(st.integers(0, 23), st.integers(0, 500), max_size=4),
)
INVOICED = st.builds(
    Invoiced,
    quantity=st.none() | st.decimals(0, 2_000, places=2),
    cost=st.none() | AMOUNTS,
    lines=st.integers(1, 3),
    repeated_quantity=st.decimals(0, 500, places=0),
)


@st.composite
def sides(draw: st.DrawFn) -> Sides:
    made = both()
    made.metered = draw(st.dictionaries(KEYS, METERED, max_size=8))
    made.invoiced = draw(st.dictionaries(KEYS, INVOICED, max_size=8))
    made.rounded_to = draw(st.sampled_from([1, 10**6, 10**10]))
    made.converted = draw(st.booleans())
    for each in draw(st.lists(KEYS, max_size=3)):
        kinds = {name: draw(st.integers(0, 3)) for name in ("cancelled", "retried", "untold")}
        around(made, each, **kinds, largest={"input": 200, "output": 200})
    return made


@given(sides(), st.builds(Tolerances, quantity_ppm=st.integers(0, 10**5), amount=st.integers(0, 10**12)))
def test_findings_add_up_to_the_variance_of_each_key(made: Sides, tolerances: Tolerances) -> None:
    sums: dict[Key | None, int] = defaultdict(int)
    for finding in findings(made, tolerances, lambda _: {"flex": 1_250_000}):
        sums[finding.key] += finding.amount
    assert {each: amount for each, amount in sums.items() if amount} == {
        each: amount for each in made.all_keys() if (amount := variance(made, each))
    }


@given(sides())
def test_quantities_of_the_findings_add_up_to_the_difference(made: Sides) -> None:
    sums: dict[Key | None, Fraction] = defaultdict(Fraction)
    for finding in findings(made, Tolerances()):
        if finding.quantity is not None:
            sums[finding.key] += finding.quantity
    for each in made.all_keys():
        said, ours = made.invoiced.get(each), made.metered.get(each)
        if said is not None and said.quantity is not None:
            assert sums[each] == Fraction(said.quantity) - (ours.quantity if ours else 0)


@given(st.integers(-(10**18), 10**18), st.dictionaries(st.text(max_size=3), st.integers(1, 10**12), min_size=1))
def test_shares_add_up_and_are_off_by_less_than_one(amount: int, weights: dict[str, int]) -> None:
    parts, total = divide(amount, weights), sum(weights.values())
    assert sum(parts.values()) == amount
    assert all(abs(parts[name] * total - amount * weights[name]) < total for name in weights)
