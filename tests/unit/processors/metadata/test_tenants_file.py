"""The tenants file: what it becomes, and errors that name file, entry, field and accepted range."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatemeter.processors.metadata.records import entry_of
from gatemeter.processors.metadata.registryfile import check_tenants_exist
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.processors.metadata.views import View, build_view
from gatemeter.processors.metadata.yamlfiles import FileError, instant_us
from gatemeter.schemas.codec import decode, encode

EXAMPLE = Path(__file__).parents[4] / "examples" / "tenants.yaml"
NOW_US = 1_790_000_000_000_000


def drafts_of(tmp_path: Path, text: str) -> list[Any]:
    path = tmp_path / "tenants.yaml"
    path.write_text(text, "utf-8")
    return read_tenants_file(path)


def view_of(tmp_path: Path, text: str) -> View:
    return build_view([entry_of(decode(encode(draft.name, draft.datum))) for draft in drafts_of(tmp_path, text)])


def test_the_example_has_five_tenants_with_different_terms() -> None:
    drafts = read_tenants_file(EXAMPLE)
    view = build_view([entry_of(decode(encode(draft.name, draft.datum))) for draft in drafts])
    terms = {
        tenant: (plan.markup_ppm, plan.retry_rule, plan.accept_claimed_identity)
        for tenant in view.tenants
        for plan in [view.attribution(tenant, next(iter(view.tenants[tenant][0].apps), ""), NOW_US).plan]
    }
    assert len(terms) == 5
    assert len(set(terms.values())) == 4
    price = view.policy_price("pii-redaction", NOW_US)
    assert price is not None and (price.pico_per_decision, price.pico_per_unit) == (100_000_000, 20_000)


def test_decimals_are_exact(tmp_path: Path) -> None:
    text = "plans: [{plan: p, markup_percent: 0.1029}]\ntenants: [{tenant: t, cost_centre: c, plan: p}]"
    assert view_of(tmp_path, text).attribution("t", "", 0).plan.markup_ppm == 1_029


def test_terms_of_its_own_make_a_plan_of_the_tenant(tmp_path: Path) -> None:
    found = view_of(tmp_path, "tenants: [{tenant: t, cost_centre: c, markup_percent: 5}]").attribution("t", "", 0)
    assert (found.plan.plan_id, found.plan.markup_ppm) == ("tenant:t", 50_000)


def test_dates_are_midnight_utc_and_entries_may_differ_from_the_default(tmp_path: Path) -> None:
    text = """
effective_from: 2026-01-01
plans: [{plan: p, effective_from: 2025-06-01}]
tenants:
  - {tenant: t, cost_centre: old, plan: p, effective_to: 2026-07-01T00:00:00+02:00}
  - {tenant: t, cost_centre: new, plan: p, effective_from: 2026-06-30T22:00:00Z}
"""
    view = view_of(tmp_path, text)
    first, change = instant_us("2026-01-01"), instant_us("2026-06-30T22:00:00+00:00")
    assert first is not None and change is not None
    assert view.attribution("t", "", first - 1).attribution == "unattributed"
    assert view.attribution("t", "", change - 1).cost_centre == "old"
    assert view.attribution("t", "", change).cost_centre == "new"


def test_parameters_that_are_not_named_have_their_defaults(tmp_path: Path) -> None:
    text = "parameters: {horizon: 3h, grace: 2 h, latency: {version: 2, fast_below_s: 0.5}}"
    parameters = view_of(tmp_path, text).parameters
    assert (parameters.horizon_us, parameters.grace_us, parameters.orphan_timer_us) == (
        10_800_000_000,
        7_200_000_000,
        600_000_000,
    )
    assert (parameters.latency.version, parameters.latency.fast_below_us) == (2, 500_000)
    assert parameters.latency.normal_below_us == 5_000_000


TENANT = "{tenant: acme, cost_centre: c, plan: p"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "tenants: [{tenant: acme, cost_centre: c, markup_percent: -5}]",
            "tenants.yaml: tenant 'acme': markup_percent must be 0 to 1000, got -5",
        ),
        (
            "plans: [{plan: p, markup_percent: 1000.1}]",
            "tenants.yaml: plan 'p': markup_percent must be 0 to 1000, got 1000.1",
        ),
        (
            "plans: [{plan: p, markup_percent: 1.00001}]",
            "tenants.yaml: plan 'p': markup_percent must have at most 4 decimals, got 1.00001",
        ),
        (
            "plans: [{plan: p, markup_percent: ten}]",
            "tenants.yaml: plan 'p': markup_percent must be 0 to 1000, got 'ten'",
        ),
        (
            "plans: [{plan: p, retry_rule: never}]",
            "tenants.yaml: plan 'p': retry_rule must be one of all_provider_charged, final_only, got 'never'",
        ),
        (
            "plans: [{plan: p, accept_claimed_identity: 1}]",
            "tenants.yaml: plan 'p': accept_claimed_identity must be true or false, got 1",
        ),
        (
            "tenants: [{tenant: acme, plan: p}]",
            "tenants.yaml: tenant 'acme': cost_centre is missing; it must be 1 to 256 characters of text",
        ),
        (
            "tenants: [{cost_centre: c, plan: p}]",
            "tenants.yaml: tenant 1: tenant is missing; it must be 1 to 256 characters of text",
        ),
        (
            "tenants: [{tenant: acme, cost_centre: c}]",
            "tenants.yaml: tenant 'acme': plan is missing; it must be the id of a plan, or markup_percent, retry_rule, "
            "retry_cost_centre, cache_rule, cache_price_percent, accept_claimed_identity",
        ),
        (
            f"tenants: [{TENANT}, markup_percent: 3}}]",
            "tenants.yaml: tenant 'acme': markup_percent and plan exclude each other: "
            "a tenant has a named plan or terms of its own",
        ),
        (
            f"tenants: [{TENANT}, apps: chat}}]",
            "tenants.yaml: tenant 'acme': apps must be a list of texts, got 'chat'",
        ),
        (
            f"tenants: [{TENANT}, effective_from: soon}}]",
            "tenants.yaml: tenant 'acme': effective_from must be a date (2026-11-01) or a time (2026-11-01T12:00:00Z), "
            "got 'soon'",
        ),
        (
            f"tenants: [{TENANT}, effective_from: 2026-01-02, effective_to: 2026-01-02}}]",
            "tenants.yaml: tenant 'acme': effective_to must be after effective_from",
        ),
        (
            f"tenants: [{TENANT}}}, {TENANT}}}]",
            "tenants.yaml: Tenant 'acme' is there twice with the same effective_from",
        ),
        (
            f"tenants: [{TENANT}, cost_center: x}}]",
            "tenants.yaml: tenant 'acme': cost_center is not known; known are tenant, effective_from, effective_to, "
            "plan, cache_rule, markup_percent, retry_rule, retry_cost_centre, accept_claimed_identity, name, "
            "cost_centre, business_unit, organisation, apps",
        ),
        ("tenant: []", "tenants.yaml: tenant is not known; known are effective_from, plans, tenants, policy_prices, "
         "apps, workloads, credentials, allocations, parameters"),
        (
            "plans: [{plan: p, cache_rule: half}]",
            "tenants.yaml: plan 'p': cache_rule must be one of free, percent_of_avoided, got 'half'",
        ),
        (
            "plans: [{plan: p, cache_rule: percent_of_avoided}]",
            "tenants.yaml: plan 'p': cache_price_percent is missing; it must be 0 to 100",
        ),
        (
            "plans: [{plan: p, cache_rule: percent_of_avoided, cache_price_percent: 100.1}]",
            "tenants.yaml: plan 'p': cache_price_percent must be 0 to 100, got 100.1",
        ),
        (
            "plans: [{plan: p, cache_price_percent: 10}]",
            "tenants.yaml: plan 'p': cache_price_percent needs cache_rule: percent_of_avoided",
        ),
        (
            "plans: [{plan: p, retry_cost_centre: ' x'}]",
            "tenants.yaml: plan 'p': retry_cost_centre must be 1 to 256 characters of text, got ' x'",
        ),
        (
            "policy_prices: [{prices: g, policies: [{policy: pii, per_1k_tokens: 5.1}]}]",
            "tenants.yaml: policy prices 'g': policy 'pii': per_1k_tokens must be 0 to 5, got 5.1",
        ),
        (
            "policy_prices: [{prices: g, policies: [{policy: pii, per_1k_tokens: 0.0000000001}]}]",
            "tenants.yaml: policy prices 'g': policy 'pii': per_1k_tokens must have at most 9 decimals, got 1E-10",
        ),
        (
            "policy_prices: [{prices: g, policies: [{policy: pii, billed_by: ''}]}]",
            "tenants.yaml: policy prices 'g': policy 'pii': billed_by must be 1 to 256 characters of text, got ''",
        ),
        (
            "policy_prices: [{prices: g, policies: [{policy: pii, per_decision: 1001}]}]",
            "tenants.yaml: policy prices 'g': policy 'pii': per_decision must be 0 to 1000, got 1001",
        ),
        (
            "policy_prices: [{prices: g, policies: [{policy: pii, per_unit: 0.011}]}]",
            "tenants.yaml: policy prices 'g': policy 'pii': per_unit must be 0 to 0.01, got 0.011",
        ),
        (
            "policy_prices: [{prices: g, currency: usd, policies: []}]",
            "tenants.yaml: policy prices 'g': currency must be an ISO 4217 code such as USD, got 'usd'",
        ),
        (
            "policy_prices: [{prices: g, policies: [{policy: a}, {policy: a}]}]",
            "tenants.yaml: policy prices 'g': policy 'a' has two prices",
        ),
        (
            "parameters: {horizon: 1m}",
            "tenants.yaml: parameters: horizon_us must be 120000000 to 86400000000 (2 min to 24 h), got 60000000",
        ),
        (
            "parameters: {grace: soon}",
            "tenants.yaml: parameters: grace must be a duration such as 90s, 15m, 3h or 7d, got 'soon'",
        ),
        (
            "parameters: {fold_release: 0}",
            "tenants.yaml: parameters: fold_release must be 1 to 32767, got 0",
        ),
        ("- a", "tenants.yaml: must be a mapping of fields, got ['a']"),
        ("", "tenants.yaml: must be a mapping of fields, got None"),
    ],
)  # fmt: skip
def test_an_error_names_file_entry_field_and_range(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(FileError) as raised:
        drafts_of(tmp_path, text)
    assert str(raised.value) == error


@pytest.mark.parametrize("text", ["a: [", "a: .nan", "a: 1\na: 2", "a: !!python/object:os.system {}"])
def test_what_is_not_plain_yaml_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(FileError, match=r"^tenants\.yaml: is not YAML: ") as raised:
        drafts_of(tmp_path, text)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no\.yaml: cannot be read: No such file"):
        read_tenants_file(tmp_path / "no.yaml")


REGISTRY = """
tenants: [{tenant: t, cost_centre: c, markup_percent: 5}]
apps: [{app: chat, tenant: t, owner: chat-team}]
workloads: [{workload: "spiffe://w", tenant: t, app: chat, owner: chat-team, issued: 2026-01-01}]
credentials:
  - {fingerprint: 9f2c, tenant: t, app: chat, workload: "spiffe://w", owner: kim, issued: 2026-01-01,
     rotated: 2026-05-01, expires: 2027-01-01, offboarded: 2026-06-01T12:00:00Z}
"""


def test_apps_workloads_and_credentials_are_registered_with_owner_and_dates(tmp_path: Path) -> None:
    view = view_of(tmp_path, REGISTRY)
    assert (view.apps, view.workloads, view.credentials) == ({("t", "chat")}, {"spiffe://w"}, {"9f2c"})
    key = view.identity("credential", "9f2c", NOW_US)
    assert key is not None
    assert (key.tenant_id, key.app_id, key.workload_id, key.owner) == ("t", "chat", "spiffe://w", "kim")
    dates = [instant_us(text) for text in ("2026-01-01", "2026-05-01", "2027-01-01", "2026-06-01T12:00:00Z")]
    assert [key.issued_at_us, key.rotated_at_us, key.expires_at_us, key.offboarded_at_us] == dates


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("apps: [{app: a, tenant: t}]", "app 'a': owner is missing; it must be 1 to 256 characters of text"),
        ("apps: [{app: a, tenant: t, owner: o, app_id: b}]", "app 'a': app_id is not known; known are app, effective_"),
        ("workloads: [{workload: w, tenant: t, owner: o, expires: soon}]", "workload 'w': expires must be a date"),
        (
            "credentials: [{fingerprint: k, tenant: t, owner: o, issued: 2026-01-02, offboarded: 2026-01-01}]",
            "credential 'k': offboarded_at must not be before issued_at",
        ),
        (
            "credentials: [{fingerprint: k, tenant: t, owner: o}, {fingerprint: k, tenant: u, owner: o}]",
            "is there twice with the same effective_from",
        ),
    ],
)
def test_an_error_in_the_registry_names_entry_and_field(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(FileError) as raised:
        drafts_of(tmp_path, text)
    assert str(raised.value).startswith("tenants.yaml: ")
    assert error in str(raised.value)


def test_an_identity_of_a_tenant_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    drafts = drafts_of(tmp_path, "credentials: [{fingerprint: k, tenant: nobody, owner: o}]")
    with pytest.raises(FileError, match="identity credential 'k': tenant must be a known tenant, got 'nobody'"):
        check_tenants_exist("tenants.yaml", drafts, build_view([]))
    check_tenants_exist("tenants.yaml", drafts_of(tmp_path, REGISTRY), build_view([]))


def test_allocations_say_what_is_shared_with_whom_and_how(tmp_path: Path) -> None:
    text = """
tenants: [{tenant: hub, cost_centre: c, markup_percent: 5}, {tenant: t, cost_centre: c, markup_percent: 5}]
allocations:
  - allocation: shared-search
    effective_from: 2026-02-01
    tenant: hub
    app: search
    method: fixed
    to: [{tenant: t, share_percent: 33.3333}, {cost_centre: CC-9, share_percent: 66.6667}]
  - {allocation: reserved, provider: openai, model: gpt-ptu, method: by_tokens, to: [{tenant: t}, {tenant: hub}]}
"""
    view = view_of(tmp_path, text)
    (search,), (reserved,) = view.allocations["shared-search"], view.allocations["reserved"]
    assert (search.tenant_id, search.app_id, search.model, search.effective_from_us) == (
        *("hub", "search", ""),
        instant_us("2026-02-01"),
    )
    assert [(each.tenant_id, each.cost_centre, each.share_ppm) for each in search.receivers] == [
        ("t", "", 333_333),
        ("", "CC-9", 666_667),
    ]
    assert (reserved.method, reserved.provider, reserved.model) == ("by_tokens", "openai", "gpt-ptu")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "{allocation: a, tenant: t, method: fixed, to: [{tenant: u, share_percent: 99}]}",
            "share_ppm must be above 0 and add",
        ),
        (
            "{allocation: a, tenant: t, method: by_tokens, to: [{tenant: u, share_percent: 9}]}",
            "to 1: share_percent is not",
        ),
        ("{allocation: a, tenant: t, method: by_tokens, to: [{}]}", "to 1: either tenant or cost_centre must be given"),
        ("{allocation: a, tenant: t, method: by_tokens}", "receivers must be at least one tenant or cost centre"),
        ("{allocation: a, method: by_tokens, to: [{tenant: u}]}", "at least one of tenant_id, app_id, provider, model"),
        (
            "{allocation: a, tenant: t, method: evenly, to: [{tenant: u}]}",
            "method must be one of fixed, by_tokens, by_req",
        ),
        (
            "{allocation: a, tenant: t, method: by_tokens, to: [{tenant: u}, {tenant: u}]}",
            "receivers must name each tenant or cost centre once",
        ),
    ],
)
def test_an_allocation_that_does_not_add_up_is_refused(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(FileError) as raised:
        drafts_of(tmp_path, f"allocations: [{text}]")
    assert str(raised.value).startswith("tenants.yaml: allocation 'a': ")
    assert error in str(raised.value)
