"""Kong, APISIX and plain JSON through the collector: gateways that post what they log, in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.conformance import Column, Said, said_of
from support.counting_provider import CountingProvider
from support.posting import Posting, both, in_flight
from support.processes import Processes

FORMS = ("kong", "apisix", "events")
NAMES = {"kong": "kong*", "apisix": "apisix*", "events": "plain JSON"}
NOBODY = "what was written before the break is nobody's word"
KONG_COUNTS = "Kong counts streams by itself, and does not say so"
UNMARKED = "its log has a stream that broke off as whole"


@pytest.fixture(scope="module", params=FORMS)
def posting(
    request: pytest.FixtureRequest, provider: CountingProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Posting]:
    folder = tmp_path_factory.mktemp(request.param)
    with Processes(folder) as processes:
        yield Posting(request.param, processes, provider, folder)


@pytest.fixture(scope="module")
def column(posting: Posting) -> Column:
    return Column(NAMES[posting.form])


def said(posting: Posting, model: str) -> list[Said]:
    return said_of(posting.events(model))


def test_whole_answers(posting: Posting, column: Column) -> None:
    for case, name, why in (
        ("ok", "ok-1", ""),
        ("error", "limited-only-1", ""),
        ("time-out", "stalls-1", ""),
        ("usage absent", "absent-1", "the provider does not say"),
    ):
        model = f"{name}-{posting.form}"
        posting.call(model)
        column.compare(case, posting.served(model), said(posting, model), why)


def test_a_provider_that_says_zero(posting: Posting, column: Column) -> None:
    model = f"zero-1-{posting.form}"
    posting.call(model)
    why = "" if posting.form == "events" else "the gateway writes 0 where it knows nothing, too"
    column.compare("usage zero", posting.served(model), said(posting, model), why)


def test_tries_that_fail_before_one_that_answers(posting: Posting, column: Column) -> None:
    model = f"flaky-1-{posting.form}"
    posting.call(model)
    column.compare("retry", posting.served(model), said(posting, model))
    model = f"down-1-{posting.form}"
    posting.call(model)
    after = f"ok-after-{model}"
    column.compare("fallback", posting.served(model, after), said(posting, after))


def test_a_stream(posting: Posting, column: Column) -> None:
    model = f"ok-2-{posting.form}"
    posting.call(model, stream=True)
    column.compare("stream", posting.served(model), said(posting, model), KONG_COUNTS if posting.form == "kong" else "")


def test_streams_that_do_not_come_to_their_end(posting: Posting, column: Column) -> None:
    cut, left = f"cut-1-{posting.form}", f"hangs-1-{posting.form}"
    posting.call(cut, stream=True)
    posting.leave(left)
    if posting.form == "events":
        column.compare("cut stream", posting.served(cut), said(posting, cut), NOBODY)
        column.compare("cancelled stream", posting.served(left), said(posting, left), NOBODY)
        return
    for case, model in (("cut stream", cut), ("cancelled stream", left)):
        [attempt] = said(posting, model)
        assert attempt.usage_source == ("estimated" if posting.form == "kong" else "missing")
        column.not_applicable(case, f"{UNMARKED}; usage is {attempt.usage_source}")


def test_an_answer_from_the_cache(posting: Posting, column: Column) -> None:
    if posting.form == "apisix":
        column.not_applicable("cache hit", "its log does not tell them")
        return
    model = f"ok-3-{posting.form}-cached"
    posting.call(model)
    posting.call(model)
    events = posting.events(model, 2)
    hits = [event for event in events if event["kind"] == "RESPONSE" and event["gateway_cache"] == "exact"]
    assert len(hits) == 1 and len(posting.served(model)) == 1
    for event in [e for e in events if e["kind"] == "RESPONSE"]:
        one = [e for e in events if e["request_id"] == event["request_id"]]
        column.compare("cache hit", posting.served(model), said_of(one))


def test_a_refusal_of_the_gateway(posting: Posting, column: Column) -> None:
    model = f"ok-4-{posting.form}"
    posting.call(model, text="forbidden")
    name = model if posting.form != "apisix" else None  # a refusal before the plugin names no model
    events = posting.events(name)  # type: ignore[arg-type]
    assert [event["outcome"] for event in events if event["kind"] == "POLICY"] == ["deny"]
    assert not [event for event in events if event["kind"] == "RESPONSE"] and posting.served(model) == []
    column.compare("policy denial", [], [])


def test_two_gateways_at_once(posting: Posting, column: Column) -> None:
    models = [f"ok-two-{number}-{posting.form}" for number in range(10)]
    both(posting, models)
    for model in models:
        column.compare("two processes", posting.served(model), said(posting, model))


def test_a_collector_that_is_killed(posting: Posting, column: Column) -> None:
    models = [f"ok-killed-{number}-{posting.form}" for number in range(5)]
    for model in models:
        posting.call(model)
        posting.events(model)
    posting.kill_collector()
    for model in models:
        column.compare("process killed", posting.served(model), said(posting, model))


def test_a_collector_that_is_ended_while_a_call_is_answered(posting: Posting, column: Column) -> None:
    model = f"slow-1-{posting.form}"
    assert in_flight(posting, model) == [200]
    column.compare("SIGTERM in flight", posting.served(model), said(posting, model))


def test_every_case_has_its_cell(column: Column) -> None:
    column.settle()
