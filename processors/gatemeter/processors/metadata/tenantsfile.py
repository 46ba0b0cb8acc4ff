"""The tenants file: tenants, plans, registry, allocations, policy prices and parameters as drafts of metadata records.

Money rule: `markup_percent` 12.5 on a component of 10.00 is 1.25; it is rounded half-even to 10⁻¹² once a component.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gatemeter.processors.fold.types import FOLD_RELEASE
from gatemeter.processors.metadata.entries import INTERNAL, RETRIES, LatencyThresholds, MetadataError, Parameters
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.records import CACHE_RULES, RETRY_RULES, check_currency, entry_of
from gatemeter.processors.metadata.registryfile import read_registry
from gatemeter.processors.metadata.views import DatedPlan, View, build_view
from gatemeter.processors.metadata.views import Entry as ViewEntry
from gatemeter.processors.metadata.yamlfiles import Entry, FileError, by_id, load_yaml, to_number
from gatemeter.schemas import limits
from gatemeter.schemas.codec import Decoded

PICO: Final = 10**12
PPM_PER_PERCENT: Final = 10_000
_MAX_PER_1K_TOKENS: Final = limits.MAX_RATE_PICO_PER_TOKEN * 1_000 // PICO
_INLINE_PLAN: Final = (
    *("markup_percent", "retry_rule", "retry_cost_centre", "cache_rule", "cache_price_percent"),
    "accept_claimed_identity",
)


def read_tenants_file(path: Path) -> list[Draft]:
    """The drafts of a file, in the order in which they are published. Raises `FileError`."""
    top = load_yaml(path)
    default_from = top.instant_us("effective_from", 0)
    drafts = [_plan(entry, default_from) for entry in top.entries("plans", by_id("plan", "plan"))]
    for entry in top.entries("tenants", by_id("tenant", "tenant")):
        drafts.extend(_tenant(entry, default_from))
    for entry in top.entries("policy_prices", by_id("policy prices", "prices")):
        drafts.append(_policy_prices(entry, default_from))
    drafts.extend(read_registry(top, default_from))
    parameters = top.mapping("parameters")
    if parameters is not None:
        drafts.append(_parameters(Entry(f"{path.name}: parameters", parameters)))
    top.done()
    _check_twice(path.name, drafts)
    return drafts


def check_plans_exist(file_name: str, drafts: list[Draft], current: View) -> None:
    """Raises `FileError` where a tenant's plan is neither in the file nor published."""
    entries: list[ViewEntry] = [entry_of(Decoded(draft.name, dict(draft.datum))) for draft in drafts]
    known = set(current.plans) | {entry.plan.plan_id for entry in entries if isinstance(entry, DatedPlan)}
    for tenant in build_view(entries).tenants.values():
        for version in tenant:
            if version.plan_id not in known:
                shown = ", ".join(sorted(known)) or "none"
                raise FileError(
                    f"{file_name}: tenant {version.tenant_id!r}: plan must be a known plan ({shown}), "
                    f"got {version.plan_id!r}"
                )


def _plan_fields(entry: Entry) -> dict[str, Any]:
    cache_rule = entry.choice("cache_rule", CACHE_RULES, "free")
    return {
        "markup_ppm": entry.scaled("markup_percent", PPM_PER_PERCENT, 0, 1_000, 0),
        "retry_rule": entry.choice("retry_rule", RETRY_RULES, "all_provider_charged"),
        "retry_cost_centre": entry.text("retry_cost_centre", RETRIES),
        "cache_rule": cache_rule,
        "cache_price_ppm": _cache_price(entry, cache_rule),
        "accept_claimed_identity": entry.flag("accept_claimed_identity", False),
    }


def _cache_price(entry: Entry, cache_rule: str) -> int:
    if cache_rule == "percent_of_avoided":
        return entry.scaled("cache_price_percent", PPM_PER_PERCENT, 0, 100)
    if entry.has("cache_price_percent"):
        raise entry.error("cache_price_percent needs cache_rule: percent_of_avoided")
    return 0


def _plan(entry: Entry, default_from: int) -> Draft:
    datum = {"plan_id": entry.text("plan"), **entry.dates(default_from), **_plan_fields(entry)}
    entry.done()
    return Draft("ChargePlan", datum)


def _tenant(entry: Entry, default_from: int) -> Iterator[Draft]:
    tenant_id = entry.text("tenant")
    dates = entry.dates(default_from)
    inline = [name for name in _INLINE_PLAN if entry.has(name)]
    plan_id = entry.text("plan", f"tenant:{tenant_id}" if inline else "")
    if inline and plan_id != f"tenant:{tenant_id}":
        raise entry.error(f"{inline[0]} and plan exclude each other: a tenant has a named plan or terms of its own")
    if not plan_id:
        raise entry.error(f"plan is missing; it must be the id of a plan, or {', '.join(_INLINE_PLAN)}")
    own_terms = _plan_fields(entry)
    datum = {
        "tenant_id": tenant_id,
        **dates,
        "name": entry.text("name", tenant_id),
        "cost_centre": entry.text("cost_centre"),
        "business_unit": entry.text("business_unit", None),
        "organisation": entry.text("organisation", None),
        "plan_id": plan_id,
        "apps": entry.texts("apps"),
    }
    entry.done()
    if inline:
        yield Draft("ChargePlan", {"plan_id": plan_id, **dates, **own_terms})
    yield Draft("Tenant", datum)


def _policy_prices(entry: Entry, default_from: int) -> Draft:
    datum = {
        "prices_id": entry.text("prices"),
        **entry.dates(default_from),
        "currency": _currency(entry),
        "prices": [],
    }
    for line in entry.entries("policies", by_id("policy", "policy")):
        price = {
            "policy_id": line.text("policy"),
            "pico_per_decision": line.scaled("per_decision", PICO, 0, limits.MAX_POLICY_PICO_PER_DECISION // PICO, 0),
            "pico_per_unit": _per_unit(line),
            "pico_per_scanned_token": line.scaled("per_1k_tokens", PICO // 1_000, 0, _MAX_PER_1K_TOKENS, 0),
            "billed_by": line.text("billed_by", INTERNAL),
        }
        line.done()
        datum["prices"].append(price)
    entry.done()
    _check(entry, Draft("PolicyPrices", datum))
    return Draft("PolicyPrices", datum)


def _per_unit(line: Entry) -> int:
    expected = "0 to 0.01"
    number = line.take("per_unit", expected, None, to_number)
    if number is None:
        return 0
    if not 0 <= number * PICO <= limits.MAX_POLICY_PICO_PER_UNIT:
        raise line.error(f"per_unit must be {expected}, got {number}")
    return line.exact("per_unit", number, PICO)


def _currency(entry: Entry) -> str:
    currency = entry.text("currency", "USD")
    try:
        return check_currency(currency)
    except MetadataError as error:
        raise entry.error(str(error)) from error


def _parameters(entry: Entry) -> Draft:
    default = Parameters()
    datum = {
        "horizon_us": entry.duration_us("horizon", default.horizon_us),
        "future_bound_us": entry.duration_us("future_bound", default.future_bound_us),
        "orphan_timer_us": entry.duration_us("orphan_timer", default.orphan_timer_us),
        "grace_us": entry.duration_us("grace", default.grace_us),
        "latency_thresholds": _latency(entry, default.latency),
        "fold_release": entry.integer("fold_release", 1, 32_767, FOLD_RELEASE),
    }
    entry.done()
    draft = Draft("Parameters", datum)
    _check(entry, draft)
    return draft


def _latency(entry: Entry, default: LatencyThresholds) -> dict[str, int]:
    content = entry.mapping("latency")
    inner = Entry(f"{entry.where}: latency", content or {})
    seconds = {
        name: inner.scaled(f"{name.removesuffix('_us')}_s", 1_000_000, 0, 86_400, getattr(default, name))
        for name in ("fast_below_us", "normal_below_us", "slow_below_us")
    }
    version = inner.integer("version", 1, 32_767, default.version)
    inner.done()
    return {"version": version, **seconds}


def _check(entry: Entry, draft: Draft) -> None:
    try:
        entry_of(Decoded(draft.name, dict(draft.datum)))
    except MetadataError as error:
        raise entry.error(str(error)) from error


def _check_twice(file_name: str, drafts: list[Draft]) -> None:
    seen: set[tuple[str, str, int]] = set()
    for draft in drafts:
        if draft.identity in seen:
            kind, entry_id, _ = draft.identity
            raise FileError(f"{file_name}: {kind} {entry_id!r} is there twice with the same effective_from")
        seen.add(draft.identity)
