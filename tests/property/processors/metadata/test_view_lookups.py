"""Whatever the entries: lookups are constant between boundaries, and equal those of a plain search."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gatemeter.processors.metadata.views import (
    Authority,
    DatedPlan,
    Entry,
    Gateway,
    Identity,
    MetadataError,
    Plan,
    PolicyPrice,
    PolicyPrices,
    RateLine,
    Tenant,
    View,
    Who,
    build_view,
    make_card,
)
from support.depth import depth

TEXT = "input_text_uncached"
INSTANTS = st.integers(0, 12)
IDS = st.sampled_from(["a", "b"])
SPANS = st.tuples(INSTANTS, st.one_of(st.none(), st.integers(1, 6))).map(
    lambda span: {"effective_from_us": span[0], "effective_to_us": None if span[1] is None else span[0] + span[1]}
)
TENANTS = st.builds(
    lambda name, plan, centre, apps, span: Tenant(name, plan, cost_centre=str(centre), apps=frozenset(apps), **span),
    IDS,
    IDS,
    st.integers(0, 99),
    st.sets(IDS),
    SPANS,
)
PLANS = st.builds(lambda name, ppm, span: DatedPlan(Plan(name, ppm), **span), IDS, st.integers(0, 99), SPANS)
POLICIES = st.builds(
    lambda name, policy, pico, span: PolicyPrices(name, {policy: PolicyPrice(name, "USD", pico, 0)}, **span),
    IDS,
    st.sampled_from(["a", "b", "*"]),
    st.integers(0, 99),
    SPANS,
)

IDENTITIES = st.builds(
    lambda kind, name, tenant, app, life, span: Identity(
        kind,
        name,
        tenant,
        "team",
        app if kind != "app" else "",
        **dict(zip(("issued_at_us", "expires_at_us", "offboarded_at_us"), sorted(life), strict=True)),
        **span,
    ),
    st.sampled_from(["app", "workload", "credential"]),
    IDS,
    IDS,
    IDS,
    st.tuples(INSTANTS, INSTANTS, INSTANTS),
    SPANS,
)


@st.composite
def lines(draw: st.DrawFn) -> RateLine:
    pico = {TEXT: draw(st.integers(0, 99))}
    tier, workload = draw(st.sampled_from(["", "flex"])), draw(st.sampled_from(["any", "batch"]))
    region = draw(st.sampled_from(["", "eu"]))
    return RateLine("p", draw(IDS), pico, pico, tier, workload, region=region, **draw(SPANS))


@st.composite
def cards(draw: st.DrawFn) -> Entry:
    chosen: list[RateLine] = []
    for line in draw(st.lists(lines(), max_size=5)):
        try:
            make_card("x", [*chosen, line])
        except MetadataError:
            continue
        chosen.append(line)
    name = draw(IDS)
    return make_card(name, chosen, content_hash=str(draw(st.integers(0, 99))), **draw(SPANS))


ROUTES = st.sampled_from(["/v1", "/v2", "*"])
AUTHORITIES = st.builds(lambda name, route, other, span: Authority(name, route, other, **span), IDS, ROUTES, IDS, SPANS)
GATEWAYS = st.builds(
    lambda name, role: Gateway(name, {}, role=role), IDS, st.sampled_from(["charging", "corroborating"])
)
ENTRIES = st.lists(st.one_of(TENANTS, PLANS, POLICIES, cards(), AUTHORITIES, GATEWAYS, IDENTITIES), max_size=14)


def callers(name: str) -> list[Who]:
    """Whoever may present itself with a registered name."""
    return [
        Who(tenant, app, workload, credential, verified)
        for tenant in ("", "a")
        for app in ("", "b")
        for workload, credential in (("", name), (name, ""), ("a", "b"))
        for verified in (True, False)
    ]


@settings(max_examples=depth(80, 800), deadline=None)
@given(st.lists(st.one_of(TENANTS, PLANS, IDENTITIES), min_size=4, max_size=14), INSTANTS)
def test_nobody_pays_for_what_a_registered_identity_of_another_tenant_did(entries: list[Entry], at_us: int) -> None:
    view = build_view(entries)
    for who in callers("b"):
        found = view.attribution_of(who, at_us)
        if found.attribution == "attributed":
            named = [
                view.identity("credential", who.credential, at_us),
                view.identity("workload", who.workload_id, at_us),
            ]
            assert {each.tenant_id for each in named if each is not None} <= {found.tenant_id}
            assert who.tenant_id in ("", found.tenant_id)
            assert who.tenant_id or who.verified, (
                "who names no tenant pays only where the gateway verified the identity"
            )
            assert found.path in ("tenant", "workload", "credential")
        else:
            assert (found.tenant_id, found.app_id, found.path) == (who.tenant_id, who.app_id, "")
            assert found.note


def lookups(view: View, at_us: int) -> list[object]:
    """Everything that a view says at an instant."""
    found: list[object] = []
    for name in ("a", "b", "c"):
        found.extend(view.attribution(name, app, at_us) for app in ("a", "b", "c"))
        found.extend(view.attribution_of(who, at_us) for who in callers(name))
        found.append(view.policy_price(name, at_us))
        found.extend(view.authority(name, route, at_us) for route in ("/v1", "/v2", "", "*"))
        for tier in ("", "flex", "felx"):
            found.extend(
                view.rate("p", name, tier, workload, region, at_us)
                for region in ("", "eu", "us")
                for workload in ("", "realtime", "batch")
            )
    return found


@settings(max_examples=depth(80, 800), deadline=None)
@given(ENTRIES)
def test_every_lookup_is_constant_between_two_boundaries(entries: list[Entry]) -> None:
    view = build_view(entries)
    assert list(view.boundaries) == sorted(set(view.boundaries))
    for at_us in range(-1, 20):
        if at_us not in view.boundaries:
            assert lookups(view, at_us) == lookups(view, at_us - 1)


def newest(entries: Sequence[tuple[int, Tenant | DatedPlan]], at_us: int) -> Tenant | DatedPlan | None:
    """The plain rule: of those in force the latest start, of equal starts the last record."""
    last = {entry.effective_from_us: entry for _, entry in entries}
    holding = [entry for entry in last.values() if entry.in_force(at_us)]
    return max(holding, key=lambda entry: entry.effective_from_us, default=None)


@settings(max_examples=depth(80, 800), deadline=None)
@given(ENTRIES, INSTANTS)
def test_attribution_equals_a_plain_search(entries: list[Entry], at_us: int) -> None:
    view = build_view(entries)
    for name in ("a", "b"):
        tenants = [(i, e) for i, e in enumerate(entries) if isinstance(e, Tenant) and e.tenant_id == name]
        tenant = newest(tenants, at_us)
        found = view.attribution(name, "a", at_us)
        if not isinstance(tenant, Tenant):
            assert found.attribution == "unattributed"
            continue
        plans = [(i, e) for i, e in enumerate(entries) if isinstance(e, DatedPlan) and e.plan.plan_id == tenant.plan_id]
        plan = newest(plans, at_us)
        known = isinstance(plan, DatedPlan) and (not tenant.apps or "a" in tenant.apps)
        assert found.attribution == ("attributed" if known else "unattributed")
        if isinstance(plan, DatedPlan) and known:
            assert (found.cost_centre, found.plan) == (tenant.cost_centre, plan.plan)


@settings(max_examples=depth(50, 500), deadline=None)
@given(ENTRIES, st.randoms(use_true_random=False))
def test_the_order_of_records_of_different_entries_does_not_matter(entries: list[Entry], random: object) -> None:
    tenants = {(e.tenant_id, e.effective_from_us): e for e in entries if isinstance(e, Tenant)}
    plans = {(e.plan.plan_id, e.effective_from_us): e for e in entries if isinstance(e, DatedPlan)}
    assume(tenants and plans)
    unique: list[Entry] = [*tenants.values(), *plans.values()]
    shuffled = list(unique)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = build_view(unique), build_view(shuffled)
    for at_us in range(20):
        assert lookups(first, at_us) == lookups(second, at_us)
