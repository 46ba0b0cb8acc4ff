"""Evidence against facts: which call is whose, in what they differ, what nobody metered, and who should have."""

from __future__ import annotations

from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.staging import stage
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from support.corrections import commit_row, correction
from support.facts import HOUR_US, NOON_US, blank_row, checkpoint, exact, fact

SECOND = 1_000_000
LATER = NOON_US + 3 * HOUR_US


class World:
    """Rows by hand. Evidence is of an agent unless a test says otherwise; time passes by checkpoints."""

    def __init__(self, settings: ClickHouseSettings, client: Client) -> None:
        self.sink, self.client, self.events = ClickHouseSink(settings), client, 0

    def write(self, table: str, *rows: dict[str, Any]) -> None:
        self.sink.write(table, rows_to_arrow(table, list(rows)))

    def facts(self, *rows: dict[str, Any]) -> None:
        self.write("usage_facts", *rows)

    def saw(self, request_id: str, **changes: Any) -> str:
        """A RESPONSE that a corroborating gateway saw, at the next offset; its place."""
        row = blank_row("evidence") | {"topic": "gatemeter.events", "offset": self.events, "gateway_id": "agent"}
        row |= {"reason": "corroborating", "kind": "RESPONSE", "request_id": request_id, "attempt": 1, "status": "ok"}
        row |= {"provider": "openai", "model": "gpt-4o", "input_text_uncached": 100, "output_text_visible": 20}
        self.events += 1
        for _ in range(2):  # written again after a crash
            self.write("evidence", row | changes)
        return f"gatemeter.events/0/{self.events - 1}/0"

    def time_passes(self, to_us: int = LATER, partition: int = 0, partitions: int = 1) -> None:
        floor = {"posting_floor": to_us, "log_time": to_us, "partition": partition, "partitions": partitions}
        self.write("ingest_batches", checkpoint(**floor))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.client.query(sql).result_rows]

    def matches(self) -> dict[str, tuple[str, str, bool]]:
        """Evidence's request → (by what, which fact, ambiguous)."""
        query = "SELECT request_id, matched_by, fact_request_id, ambiguous FROM evidence_matches"
        return {row[0]: row[1:] for row in self.rows(query)}

    def unmetered(self) -> set[str]:
        return {row[0] for row in self.rows("SELECT request_id FROM unmetered_calls WHERE charged_in_run = ''")}


@pytest.fixture
def world(clickhouse_database: ClickHouseSettings, clickhouse_client: Client) -> World:
    return World(clickhouse_database, clickhouse_client)


def test_the_providers_request_id_goes_before_the_trace(world: World) -> None:
    world.facts(fact("right", provider_request_id="p-1", trace_id="other"), fact("wrong", trace_id="t"))
    world.saw("seen", provider_request_id="p-1", trace_id="t")
    assert world.matches() == {"seen": ("provider_request_id", "right", False)}
    world.time_passes()
    assert world.unmetered() == set()


def test_one_call_and_one_fact_of_a_trace_are_each_others_and_what_differs_is_said(world: World) -> None:
    answer = {"model": "gpt-4", "input_text_uncached": 90, "output_text_visible": None}
    world.facts(fact("r", trace_id="t", status="cancelled", **answer))
    world.saw("seen", trace_id="t", served_model="gpt-4o-2024")
    assert world.matches() == {"seen": ("trace_id", "r", False)}
    ((differs,),) = world.rows("SELECT differs FROM evidence_matches")
    assert differs == [("model", "gpt-4o", "gpt-4"), ("status", "ok", "cancelled"), ("input_tokens", "100", "90")]


def test_other_ids_of_the_provider_are_other_calls_of_the_trace(world: World) -> None:
    world.facts(fact("r", trace_id="t", provider_request_id="p-1"))
    world.saw("same", trace_id="t", provider_request_id="p-1")
    world.saw("past the gateway", trace_id="t", provider_request_id="p-2")
    world.time_passes()
    assert world.matches()["same"] == ("provider_request_id", "r", False)
    assert world.unmetered() == {"past the gateway"}


def test_of_a_trace_with_more_calls_those_of_one_model_are_taken_in_order_and_the_number_is_right(world: World) -> None:
    for number in range(2):
        at = {"request_started_at": NOON_US + (10 + number) * SECOND}
        world.facts(fact(f"f{number}", trace_id="t", **at), fact(f"m{number}", trace_id="t", model="mini", **at))
    for number in range(3):
        world.saw(f"s{number}", trace_id="t", request_started_at=NOON_US + (11 + number) * SECOND)
    world.saw("small", trace_id="t", model="mini")
    world.time_passes()
    assert world.matches() == {
        "s0": ("trace_id", "f0", True),
        "s1": ("trace_id", "f1", True),
        "s2": ("", "", False),
        "small": ("trace_id", "m0", True),
    }
    assert world.unmetered() == {"s2"}


def test_an_id_that_no_fact_states_agrees_with_a_fact_without_one_only_where_the_status_is_the_same(
    world: World,
) -> None:
    world.facts(fact("failed", trace_id="t", status="error"), fact("of kong", trace_id="u"))
    world.saw("answered", trace_id="t", provider_request_id="p-1")
    world.saw("told", trace_id="u", provider_request_id="p-2")
    assert world.matches() == {"answered": ("", "", False), "told": ("trace_id", "of kong", False)}


def test_every_observer_is_matched_by_itself_and_nobody_with_its_own_facts(world: World) -> None:
    world.facts(fact("r", trace_id="t"), fact("own", trace_id="u", gateway_id="envoy"))
    world.saw("agent's", trace_id="t")
    world.saw("envoy's", trace_id="t", gateway_id="envoy")
    world.saw("not its own", trace_id="u", gateway_id="envoy")
    found = world.matches()
    assert found["agent's"] == found["envoy's"] == ("trace_id", "r", False)
    assert found["not its own"] == ("", "", False)


def test_a_call_is_its_answer_of_the_highest_revision_and_decisions_are_no_calls(world: World) -> None:
    world.saw("r", kind="REQUEST", status="", input_text_uncached=None, output_text_visible=None)
    world.saw("r", usage_revision=1, input_text_uncached=7, output_text_visible=None)
    world.saw("r")
    world.saw("asked", kind="REQUEST", status="", input_text_uncached=None, output_text_visible=None)
    world.saw("judged", kind="POLICY", status="")
    query = (
        "SELECT request_id, status, has_response, input_tokens, output_tokens FROM evidence_calls ORDER BY request_id"
    )
    assert world.rows(query) == [("asked", "unanswered", False, None, None), ("r", "ok", True, 7, None)]


def test_the_truth_about_an_attempt_is_compared_and_a_cached_answer_counts_what_it_echoed(world: World) -> None:
    revised = fact("r", trace_id="t", version=(1 << 63) + 9, response_hash="later", input_text_uncached=100)
    world.facts(fact("r", trace_id="t", input_text_uncached=1), revised)
    cached = {"input_text_uncached": None, "output_text_visible": None}
    world.facts(fact("hit", trace_id="u", avoided_input_tokens=100, avoided_output_tokens=20, **cached))
    world.saw("seen", trace_id="t")
    world.saw("echo", trace_id="u")
    assert world.rows("SELECT differs FROM evidence_matches") == [([],), ([],)]


def test_nothing_is_unmetered_before_the_grace_has_passed_in_every_partition(world: World) -> None:
    world.saw("seen", trace_id="t")
    assert world.unmetered() == set()
    world.time_passes(partitions=2)
    assert world.unmetered() == set()  # nothing is known of the other partition
    world.time_passes(NOON_US, partition=1, partitions=2)
    assert world.unmetered() == set()
    world.time_passes(NOON_US + 1, partition=1, partitions=2)
    world.write("ingest_batches", checkpoint(next_offset=20, posting_floor=LATER, partition=1, partitions=2))
    assert world.unmetered() == {"seen"}
    world.facts(fact("late", trace_id="t"))
    assert world.unmetered() == set()


def test_a_batch_job_without_its_answer_is_not_over(world: World) -> None:
    world.saw("job", kind="REQUEST", workload_class="batch")
    world.saw("call", kind="REQUEST", workload_class="realtime")
    world.time_passes()
    assert world.unmetered() == {"call"}


def test_what_could_not_be_matched_says_why(world: World) -> None:
    world.saw("blind")
    world.saw("traced", trace_id="t")
    world.time_passes()
    assert dict(world.rows("SELECT request_id, why FROM unmetered_calls")) == {
        "blind": "nothing to match by",
        "traced": "no fact",
    }


def test_a_committed_correction_charges_the_evidence_that_it_names(world: World) -> None:
    first, second = world.saw("charged", trace_id="t"), world.saw("staged", trace_id="u")
    world.time_passes()
    run = "20260301T120000Z-00000000000000aa-0"
    world.write("commits", commit_row(stage(world.sink, run, [correction(run_id=run, evidence_place=first)])))
    other = "20260301T120000Z-00000000000000bb-0"
    stage(world.sink, other, [correction(run_id=other, evidence_place=second)])
    assert dict(world.rows("SELECT request_id, charged_in_run FROM unmetered_calls")) == {"charged": run, "staged": ""}
    assert world.unmetered() == {"staged"}
    world.saw("charged", trace_id="t", usage_revision=1)
    assert world.unmetered() == {"staged"}  # the call is charged, not the one event
    query = "SELECT run_id, evidence_place, request_id, charge, fact_request_id FROM charged_evidence"
    assert world.rows(query) == [(run, first, "charged", exact(5), "")]
    world.facts(fact("late", trace_id="t"))
    assert [row[-1] for row in world.rows(query)] == ["late"]  # charged twice


def test_an_authority_that_stays_silent_is_listed_with_since_when(world: World) -> None:
    route = {"gateway_id": "envoy", "reason": "authority", "authority_gateway_id": "litellm", "route": "/v1"}
    world.facts(fact("metered", trace_id="t0", gateway_id="litellm"))
    for number in range(3):
        world.saw(f"r{number}", trace_id=f"t{number}", request_started_at=NOON_US + number * SECOND, **route)
    world.saw("agent's", trace_id="elsewhere")
    world.time_passes()
    query = "SELECT authority_gateway_id, gateway_id, route, calls, toUnixTimestamp64Micro(since), input_tokens"
    assert world.rows(f"{query} FROM silent_authorities") == [("litellm", "envoy", "/v1", 2, NOON_US + SECOND, 200)]


def test_two_gateways_that_both_charged_one_call_are_found(world: World) -> None:
    one = {"provider_request_id": "p-1"}
    world.facts(fact("a", gateway_id="envoy", **one), fact("b", gateway_id="litellm", **one), fact("c", attempt=2))
    world.facts(fact("d", provider_request_id="p-2"), fact("d", 2, provider_request_id="p-2"))
    ((provider_id, facts),) = world.rows("SELECT provider_request_id, facts FROM metered_twice")
    assert provider_id == "p-1"
    assert [(entry["gateway_id"], entry["request_id"]) for entry in facts] == [("envoy", "a"), ("litellm", "b")]
