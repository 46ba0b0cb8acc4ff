"""What is planted on one day among the usual traffic: cases of every kind, and things that only look like one.

A case says its truth: (kind, tenant, workload) of each exception that it is. What has none is a hard negative.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from benchmarks.exceptions_check.traffic import DAY_US, FIRST, HOUR_US, LOOKED, Workload, World, start_us

from gatemeter.sinks.exceptions.thresholds import NUMBERS, Thresholds

Truth = tuple[str, str, str]
_S: Final = 1_000_000
_DAY: Final = start_us(LOOKED)
_OWN: Final = {name: default for name, (default, _, _) in NUMBERS.items()}
THRESHOLDS: Final = Thresholds(of_tenants={"umbrella": {**_OWN, "allowed_models": ("gpt-4o*",)}})
"""One tenant says every threshold itself, so that every query is asked with thresholds per tenant."""


def _at(hour: int, minute: int = 0) -> int:
    return _DAY + hour * HOUR_US + minute * 60 * _S


def _premium(world: World) -> list[Truth]:
    of = Workload("acme", "summaries", "conversation", 12, (("gpt-4o-mini", 0.99), ("o1-pro", 0.01)))
    world.usual(of)
    world.calls(of, _at(8), 8 * HOUR_US, 120, model="o1-pro")
    return [("premium_model", "acme", "summaries"), ("spend_spike", "acme", "summaries")]


def _premium_as_usual(world: World) -> list[Truth]:
    world.usual(Workload("acme", "research", "code", 4, (("gpt-4o", 0.7), ("o1-pro", 0.3))))
    return []


def _burst(world: World) -> list[Truth]:
    of = Workload("acme", "quotes", "conversation", 20)
    world.usual(of)
    world.calls(of, start_us(FIRST + timedelta(days=9), 14), HOUR_US, 250)  # an earlier one does not hide it
    world.calls(of, _at(14), HOUR_US, 220)
    return [("burst", "acme", "quotes")]


def _burst_at_night(world: World) -> list[Truth]:
    of = Workload("globex", "branch", "conversation", 40, hours=(8, 18))
    world.usual(of)
    world.calls(of, _at(3), HOUR_US, 300)
    return [("burst", "globex", "branch")]


def _nightly_batch(world: World) -> list[Truth]:
    of = Workload("globex", "nightly", "code", 250, hours=(2, 4))
    world.usual(of)
    world.calls(of, _at(2), HOUR_US, 60)
    return []


def _weekly_batch(world: World) -> list[Truth]:
    world.usual(Workload("globex", "weekly", "conversation", 8))
    world.usual(Workload("globex", "weekly", "conversation", 300, hours=(10, 11), weekdays=(0,)))
    return []


def _grows_small(world: World) -> list[Truth]:
    of = Workload("globex", "pilot", "conversation", 2)
    world.usual(of)
    world.calls(of, _at(11), HOUR_US, 25)
    return []


def _new_workload(world: World) -> list[Truth]:
    of = Workload("globex", "newcomer", "conversation", 1, (("claude-sonnet", 1.0),))
    world.calls(of, _at(9), 9 * HOUR_US, 900)
    return []


def _prompt_cache(world: World) -> list[Truth]:
    of = Workload("initech", "support", "conversation", 45, prompt_cache=0.75)
    world.usual(of)
    for row in world.facts:
        if row["workload_id"] == of.name and _at(10) <= row["request_started_at"] < _at(17):
            row["input_text_uncached"] += row.pop("input_text_cache_read", 0)
    return [("cache_misses", "initech", "support")]


def _gateway_cache(world: World) -> list[Truth]:
    of = Workload("initech", "faq", "conversation", 50, gateway_cache=0.6)
    world.usual(of)
    for row in world.facts:
        if row["workload_id"] == of.name and _at(12) <= row["request_started_at"] < _at(18):
            row["gateway_cache"] = "miss"
    return [("cache_misses", "initech", "faq")]


def _cache_warm_up(world: World) -> list[Truth]:
    of = Workload("initech", "warm", "conversation", 45, prompt_cache=0.75)
    world.usual(of)
    for row in world.facts:
        if row["workload_id"] == of.name and _at(12) <= row["request_started_at"] < _at(14):
            row["input_text_uncached"] += row.pop("input_text_cache_read", 0)
    return []


def _agent_retries(world: World) -> list[Truth]:
    of = Workload("initech", "agent", "code", 15)
    world.usual(of)
    for number in range(12):
        world.call(of, _at(15) + number * 20 * _S, content_digest="d" * 32)
    return [("agent_retries", "initech", "agent")]


def _heartbeats(world: World) -> list[Truth]:
    of = Workload("initech", "monitor", "conversation", 3)
    world.usual(of)
    for number in range(DAY_US // (150 * _S)):
        world.call(of, _DAY + number * 150 * _S, content_digest="h" * 32)
    for name in ("quotes", "branch", "support", "faq", "agent", "warm"):
        other = Workload({"quotes": "acme", "branch": "globex"}.get(name, "initech"), name, "conversation", 0)
        world.call(other, _at(16), content_digest="same for all")
    return []


def _fan_out(world: World) -> list[Truth]:
    of = Workload("initech", "planner", "code", 15)
    world.usual(of)
    parent = world.call(of, _at(13))
    for number in range(90):
        world.call(of, _at(13) + number * 150 * _S, parent_request_id=parent)
    return [("tool_fan_out", "initech", "planner")]


def _small_fans(world: World) -> list[Truth]:
    of = Workload("initech", "crew", "code", 15)
    world.usual(of)
    for hour in range(6, 20, 3):
        parent = world.call(of, _at(hour))
        world.calls(of, _at(hour), HOUR_US, 25, parent_request_id=parent, trace_id=f"trace-{hour}")
    return []


def _spike(world: World) -> list[Truth]:
    of = Workload("hooli", "briefs", "code", 15, (("gpt-4o", 1.0),))
    world.usual(of)
    world.calls(of, _at(0), DAY_US, 60, tokens=40)
    return [("spend_spike", "hooli", "briefs")]


def _dear_but_not_three_times(world: World) -> list[Truth]:
    of = Workload("hooli", "reviews", "code", 25, (("gpt-4o", 1.0),))
    world.usual(of)
    world.calls(of, _at(0), DAY_US, 300)
    return []


def _first_use(world: World) -> list[Truth]:
    of = Workload("hooli", "chat", "conversation", 10)
    world.usual(of)
    world.calls(of, _at(9), 4 * HOUR_US, 5, model="gemini-flash")
    return [("first_use_of_model", "hooli", "chat")]


def _used_again(world: World) -> list[Truth]:
    of = Workload("hooli", "mail", "conversation", 10)
    world.usual(of)
    world.call(of, start_us(FIRST + timedelta(days=2), 9), model="gemini-flash")
    world.calls(of, _at(9), 4 * HOUR_US, 5, model="gemini-flash")
    return []


def _probing(world: World) -> list[Truth]:
    of = Workload("hooli", "intern", "conversation", 6, credential="fp-intern")
    world.usual(of)
    for number in range(40):
        model = ("o1-pro", "claude-sonnet", "gpt-4.1", "gemini-flash", "gpt-4o")[number % 5]
        world.call(of, _at(4) + number * 150 * _S, model=model, status="error", http_status=403)
    world.calls(of, _at(6), HOUR_US, 20, model="gpt-4.1")
    return [("model_probing", "hooli", "intern"), ("first_use_of_model", "hooli", "intern")]


def _limited(world: World) -> list[Truth]:
    models = (("gpt-4o", 1.0), ("gpt-4o-mini", 1.0), ("claude-sonnet", 1.0), ("gpt-4.1", 1.0))
    of = Workload("hooli", "crawler", "conversation", 15, models, credential="fp-crawler")
    world.usual(of)
    world.calls(of, _at(4), 4 * HOUR_US, 45, status="error", http_status=429)
    return []


def _buggy(world: World) -> list[Truth]:
    of = Workload("hooli", "buggy", "conversation", 15, credential="fp-buggy")
    world.usual(of)
    world.calls(of, _at(4), 4 * HOUR_US, 45, status="error", http_status=400)
    return []


def _not_allowed(world: World) -> list[Truth]:
    of = Workload("umbrella", "lab", "conversation", 10, (("gpt-4o", 1.0),))
    world.usual(of)
    world.call(of, start_us(FIRST + timedelta(days=3), 9), model="claude-sonnet")
    world.calls(of, _at(9), 4 * HOUR_US, 4, model="claude-sonnet")
    return [("model_not_allowed", "umbrella", "lab")]


def _allowed(world: World) -> list[Truth]:
    world.usual(Workload("umbrella", "desk", "conversation", 10, (("gpt-4o", 0.5), ("gpt-4o-mini", 0.5))))
    return []


def _region(world: World) -> list[Truth]:
    of = Workload("stark", "mobile", "conversation", 10, credential="fp-mobile")
    world.usual(of)
    world.calls(of, _at(5), HOUR_US, 8, region="ap-south")
    return [("new_region", "stark", "mobile")]


def _two_regions(world: World) -> list[Truth]:
    world.usual(Workload("stark", "web", "conversation", 10, credential="fp-web", regions=("eu-west", "us-east")))
    return []


def _network(world: World) -> list[Truth]:
    """A key that is used at home and at work is one day used from elsewhere too."""
    of = Workload("tyrell", "clerk", "conversation", 10, credential="fp-clerk")
    world.usual(of)
    _from_networks(world, of, ("198.51.100.0/24", "2001:db8:7::/48"))
    world.calls(of, _at(5), HOUR_US, 8, client_network="203.0.113.0/24")
    return [("new_client_network", "tyrell", "clerk")]


def _many_networks(world: World) -> list[Truth]:
    """An app on telephones: a network more is as usual."""
    of = Workload("tyrell", "phones", "conversation", 20, credential="fp-phones")
    world.usual(of)
    _from_networks(world, of, [f"100.64.{number}.0/24" for number in range(60)])
    world.calls(of, _at(5), HOUR_US, 8, client_network="203.0.113.0/24")
    return []


def _says_its_network_now(world: World) -> list[Truth]:
    """A gateway that did not say networks until yesterday."""
    of = Workload("tyrell", "upgraded", "conversation", 10, credential="fp-upgraded")
    world.usual(of)
    world.calls(of, _at(9) - DAY_US, HOUR_US, 8, client_network="198.51.100.0/24")
    world.calls(of, _at(9), HOUR_US, 8, client_network="203.0.113.0/24")
    return []


def _from_networks(world: World, of: Workload, networks: Sequence[str]) -> None:
    for number, row in enumerate(row for row in world.facts if row["workload_id"] == of.name):
        row["client_network"] = networks[number % len(networks)]


def _credentials(world: World) -> list[Truth]:
    of = Workload("stark", "gone", "conversation", 3)
    world.usual(of)
    world.calls(of, _at(6), HOUR_US, 7, credential_fingerprint="fp-gone", attribution_note="credential_offboarded")
    old = Workload("stark", "old", "conversation", 3)
    world.usual(old)
    world.calls(old, _at(6), HOUR_US, 7, credential_fingerprint="fp-old", attribution_note="credential_expired")
    strange = Workload("stark", "strange", "conversation", 3)
    world.usual(strange)
    world.calls(strange, _at(6), HOUR_US, 7, credential_fingerprint="fp-nobody")
    for number, name in enumerate(("fp-mobile", "fp-web", "fp-gone", "fp-old")):
        detail = {"effective_from": 0, "effective_to": None, "kind": "credential", "identity_id": name}
        detail |= {"tenant_id": "stark", "owner": "tony"}
        at = {"topic": "gatemeter.metadata", "offset": number, "at": _DAY, "kid": "ops"}
        world.add("operator_log", act="Identity", subject=f"credential/{name}", detail=json.dumps(detail), **at)
    kinds = (("offboarded_credential", "gone"), ("expired_credential", "old"), ("unknown_credential", "strange"))
    return [(kind, "stark", name) for kind, name in kinds]


def _denials(world: World) -> list[Truth]:
    for tenant, name, usual, now in (("wayne", "kiosk", 2, 40), ("wayne", "filtered", 30, 55)):
        for number in range(16):
            day = FIRST + timedelta(days=number)
            for _ in range(now if day == LOOKED else usual):
                _deny(world, tenant, name, start_us(day) + world.rng.randrange(DAY_US))
    return [("policy_denials", "wayne", "kiosk")]


def _deny(world: World, tenant: str, workload: str, at_us: int) -> None:
    hour, decision = at_us // HOUR_US * HOUR_US, world.id()
    when = {"posted_hour": hour, "usage_hour": hour, "request_started_at": at_us, "occurred_at": at_us}
    who = {"tenant_id": tenant, "app_id": "app", "workload_id": workload, "gateway_id": "litellm"}
    what = {"decision_id": decision, "content_hash": decision, "version": 1, "request_id": world.id()}
    priced = {
        "policy_id": "pii",
        "outcome": "deny",
        "price_status": "priced",
        "currency": "USD",
        "policy_cost": 380_000_000,
    }
    world.add("policy_facts", recorded_at=at_us, **when, **who, **what, **priced)


def _gaps(world: World) -> list[Truth]:
    of = Workload("wayne", "orphaned", "conversation", 5)
    world.usual(of)
    world.calls(of, _at(7), HOUR_US, 3, status="orphan", http_status=None, has_response=False)
    free = Workload("wayne", "unlisted", "conversation", 5)
    world.usual(free)
    world.calls(free, _at(7), HOUR_US, 6, model="gpt-4o-mini", price_status="unpriced", currency="", provider_cost=None)
    nobody = Workload("ghost", "nobody", "conversation", 1)
    world.calls(nobody, _at(7), HOUR_US, 6, attribution="unattributed", attribution_note="unknown_tenant")
    kinds = (("orphans", "wayne", "orphaned"), ("unpriced", "wayne", "unlisted"), ("unattributed", "ghost", "nobody"))
    return list(kinds)


def _unproved(world: World) -> list[Truth]:
    place = {"topic": "gatemeter.events", "partition": 0}
    for number in range(4):
        at = _at(7) + number * _S
        seen: dict[str, Any] = {"gateway_id": "agents", "kind": "RESPONSE", "request_id": world.id(), "attempt": 1}
        seen |= {"request_started_at": at, "occurred_at": at, "recorded_at": at, "status": "ok", "reason": "kind"}
        seen |= {
            "tenant_id": "wayne",
            "app_id": "app",
            "workload_id": "shadow",
            "provider": "openai",
            "model": "gpt-4o",
        }
        world.add("evidence", **place, offset=number, event_index=0, input_text_uncached=900, **seen)
    for number in range(3):
        refused = {
            "reason": "bad_mac",
            "claimed_gateway_id": "litellm",
            "recorded_at": _at(8),
            "record_digest": str(number),
        }
        world.add("quarantine", **place, offset=100 + number, event_index=-1, **refused)
    done = {"next_offset": 1_000, "partitions": 1, "posting_floor": _DAY + 3 * DAY_US, "records": 1_000}
    world.add("ingest_batches", **place, log_time=_DAY + 3 * DAY_US, worker="w", **done)
    return [("unmetered", "wayne", "shadow"), ("unverified", "", "")]


CASES: Final[tuple[Callable[[World], list[Truth]], ...]] = (
    *(_premium, _premium_as_usual, _burst, _burst_at_night, _nightly_batch, _weekly_batch, _grows_small),
    *(_new_workload, _prompt_cache, _gateway_cache, _cache_warm_up, _agent_retries, _heartbeats, _fan_out, _small_fans),
    *(_spike, _dear_but_not_three_times, _first_use, _used_again, _probing, _limited, _buggy, _not_allowed, _allowed),
    *(_region, _two_regions, _network, _many_networks, _says_its_network_now, _credentials, _denials, _gaps, _unproved),
)
