"""Whatever is shared by whatever rules: shares add up to the whole, and the total over all parties stays."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.sinks.reports.allocating import Party, Rule, Used, allocate
from gatemeter.sinks.reports.allocation import lines_of
from gatemeter.sinks.reports.dividing import divide

IDS = st.sampled_from(["a", "b", "c"])
MAYBE = st.sampled_from(["", "", "a", "b"])
PARTIES = st.builds(Party, st.sampled_from(["tenant", "cost_centre"]), IDS)
MONTHS = st.sampled_from([date(2026, 3, 1), date(2026, 4, 1)])
AMOUNTS = st.one_of(st.integers(-(10**20), 10**20), st.integers(-5, 5), st.sampled_from([5 * 10**9, 15 * 10**9]))


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    said = draw(st.tuples(MAYBE, MAYBE, MAYBE, MAYBE).filter(any))
    receivers = tuple(draw(st.lists(PARTIES, min_size=1, max_size=4, unique=True)))
    method = draw(st.sampled_from(["fixed", "by_tokens", "by_requests"]))
    cuts = sorted(
        draw(st.lists(st.integers(1, 999_999), min_size=len(receivers) - 1, max_size=len(receivers) - 1, unique=True))
    )
    edges = [0, *cuts, 1_000_000]
    shares = tuple(after - before for before, after in pairwise(edges))
    start, length = draw(st.integers(0, 3)), draw(st.sampled_from([None, 1, 2]))
    return Rule(
        draw(IDS),
        start,
        None if length is None else start + length,
        *said,
        method,
        receivers,
        shares if method == "fixed" else (),
    )


USED = st.builds(
    Used,
    MONTHS,
    st.integers(0, 4),
    IDS,
    IDS,
    IDS,
    IDS,
    IDS,
    st.sampled_from(["USD", "JPY"]),
    AMOUNTS,
    st.integers(0, 9),
    st.integers(0, 3),
    st.integers(0, 2),
)


@settings(deadline=None)
@given(
    AMOUNTS, st.dictionaries(PARTIES, st.integers(0, 10**9), min_size=1).filter(lambda weights: sum(weights.values()))
)
def test_parts_add_up_to_the_whole_and_are_off_by_less_than_one(whole: int, weights: dict[Party, int]) -> None:
    parts = divide(whole, weights)
    total = sum(weights.values())
    assert sum(parts.values()) == whole
    for party, part in parts.items():
        assert abs(part * total - whole * weights[party]) < total


@settings(deadline=None)
@given(st.lists(USED, max_size=12), st.lists(rules(), max_size=4))
def test_the_total_over_all_parties_is_that_of_what_was_used(used: list[Used], given_rules: list[Rule]) -> None:
    bounds = len(
        {rule.from_us for rule in given_rules} | {rule.to_us for rule in given_rules if rule.to_us is not None}
    )
    used = [each for each in used if each.span <= bounds]
    allocated = allocate(used, given_rules)
    whole: dict[tuple[date, str], int] = defaultdict(int)
    for each in used:
        whole[each.month, each.currency] += each.charge
    total: dict[tuple[date, str], int] = defaultdict(int)
    cents: dict[tuple[date, str], list[int]] = defaultdict(lambda: [0, 0])
    for line in lines_of(used, allocated):
        total[line.month, line.currency] += line.total(line.pico)
        cents[line.month, line.currency][0] += line.total(line.cents)
        cents[line.month, line.currency][1] += line.cents["own"]
    assert total == whole
    assert all(after == before for after, before in cents.values())


@settings(deadline=None)
@given(st.lists(USED, max_size=12), st.lists(rules(), max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_lines_and_rules_does_not_matter(
    used: list[Used], given_rules: list[Rule], random: object
) -> None:
    unique = list({(rule.allocation_id, rule.from_us): rule for rule in given_rules}.values())
    bounds = len({rule.from_us for rule in unique} | {rule.to_us for rule in unique if rule.to_us is not None})
    used = [each for each in used if each.span <= bounds]
    mixed, other = list(used), list(unique)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    random.shuffle(other)  # type: ignore[attr-defined]
    assert allocate(mixed, other) == allocate(used, unique)
