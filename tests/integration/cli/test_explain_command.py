"""`gatemeter explain` end to end: traffic folded by a worker on Kafka, prices read from the signed metadata log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner, Result

from gatemeter.cli.explain import explain
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.producers import new_request_id, now_us
from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from support.clickhouse import ClickHouse
from support.explained import FILES, card
from support.kafka import KafkaBroker
from support.mutations import mutate
from support.processes import Processes
from support.spine import Spine

app = typer.Typer()
app.command()(explain)
OUTPUT = {"COLUMNS": "160", "TERM": "dumb"}


class World:
    """A request that fell back from one provider to another under two policies, one unpriced, one from the cache."""

    def __init__(self, spine: Spine, database: ClickHouseSettings) -> None:
        self.spine, self.database = spine, database
        self.client: Client = connect(database)
        spine.apply(*read_tenants_file(FILES / "tenants.yaml"), card())
        worker = spine.worker(database)
        self.ids = {name: new_request_id() for name in ("answered", "unpriced", "cached")}
        emitter = spine.emitter()
        call = self.call("answered", trace_id="trace-1", idempotency_key="key-1")
        usage = {"usage_source": "reported", "input_text_uncached": 100, "output_text_visible": 20}
        assert emitter.request(**call)
        assert emitter.policy(
            **call, decision_id=f"{self.ids['answered']}-p", policy_id="pii", outcome="allow", units=3
        )
        assert emitter.response(**call, status="error", delivered=False, http_status=503, latency_us=138_462, **usage)
        second = call | {"provider": "google", "model": "long", "attempt": 2}
        more = usage | {"input_text_uncached": 200_001}
        assert emitter.response(**second, status="ok", delivered=True, latency_us=2_000_000, ttft_us=300_000, **more)
        assert emitter.response(**self.call("unpriced", trace_id="trace-1", model="gpt-9"), status="ok", **usage)
        assert emitter.response(**self.call("cached", trace_id="trace-2"), status="ok", gateway_cache="exact", **usage)
        assert emitter.close(30).undelivered == 0
        spine.wait_until_sunk(self.client, worker)

    def call(self, name: str, **fields: Any) -> dict[str, Any]:
        who = {"tenant_id": "acme", "app_id": "chat", "workload_id": "w-1", "credential_fingerprint": "f-1"}
        what = {"identity_source": "mtls", "provider": "openai", "model": "gpt", "operation": "chat"}
        return {"request_id": self.ids[name], "request_started_at": now_us(), **who, **what, **fields}

    def run(self, *arguments: str, exit_code: int = 0, kafka: bool = True, **changes: str) -> Result:
        given = {
            "clickhouse-url": self.database.url,
            "clickhouse-user": self.database.user,
            "clickhouse-password": self.database.password,
            "clickhouse-database": self.database.database,
        }
        if kafka:
            given |= {"bootstrap": self.spine.kafka.bootstrap, "metadata-topic": self.spine.metadata_topic}
            given |= {"operator-keys": str(self.spine.folder / "operators.json")}
        given |= {name.replace("_", "-"): value for name, value in changes.items()}
        options = [word for name, value in given.items() for word in (f"--{name}", value)]
        result = CliRunner().invoke(app, [*arguments, *options], env=OUTPUT)
        assert result.exit_code == exit_code, (result.output, result.exception)
        return result

    def json(self, *arguments: str, **more: Any) -> Any:
        return json.loads(self.run(*arguments, "--json", **more).stdout)


@pytest.fixture(scope="module")
def world(kafka: KafkaBroker, clickhouse: ClickHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    database = clickhouse.migrated()
    folder = tmp_path_factory.mktemp("explain")
    with Processes(folder) as processes:
        made = World(Spine(kafka, folder, processes, partitions=2), database)
        yield made
        made.client.close()
    clickhouse.drop(database)


def test_the_whole_calculation_is_printed(world: World) -> None:
    shown = world.run(world.ids["answered"]).stdout
    flat = " ".join(shown.split())
    for text in (
        f"Request {world.ids['answered']} of gateway litellm",
        f"prices: metadata log {world.spine.metadata_topic}",
        "Attempt 1: fallback, openai gpt, error, HTTP 503, 138.462 ms (fast)",
        "Attempt 2: answered, google long, ok, 2,000 ms (normal), first token after 300 ms",
        "context tier: 200,001 input tokens are above 200,000, so all tokens pay the prices above 200,000",
        f"rate card card-1, hash {card().datum['content_hash']}",
        "prices of contract of 2026-01; published by ops at offset",
        "plan standard (from the beginning on): mark-up 150,000 ppm, all_provider_charged, cache free",
        "plan 'standard' adds 15 %: 150,000 millionths, rounded half-even to 10⁻¹² once on tokens and once on fees",
        f"Decision {world.ids['answered']}-p: policy pii: allow",
        "Acme Group → unit insurance → cost centre cc-1 → tenant acme → app chat → workload w-1 → credential f-1",
        "open hour",
        "check: 0.400478 + 0.000000000007 + 0.000003021 + 0.060072153151 - 0 = 0.460553174158 USD: adds up",
        "calculated again from tokens and prices",
    ):
        assert text in flat, text
    (line,) = [line for line in shown.splitlines() if "200,001" in line and "tokens" in line and "context" not in line]
    assert line.split() == ["tokens", "input_text_uncached", "200,001", "million", "2", "0.400002", "2", "0.400002"]


def test_json_has_every_amount_as_text_and_every_provenance(world: World) -> None:
    data = world.json(world.ids["answered"])
    assert (data["adds_up"], data["problems"], data["tenant_id"], data["trace_id"]) == (True, [], "acme", "trace-1")
    assert [(event["kind"], event["attempt"]) for event in data["events"]] == [
        ("POLICY", 0),
        ("RESPONSE", 1),
        ("RESPONSE", 2),
    ]
    for event in data["events"]:
        assert (event["topic"], event["kid"], event["evidence_grade"]) == (world.spine.topic, world.spine.kid, "A")
    first, second = data["attempts"]
    assert (first["role"], second["role"]) == ("fallback", "answered")
    calculation = second["calculation"]
    assert calculation["context_tier"] == {
        "input_tokens": 200_001,
        "input_tokens_above": 200_000,
        "bounds": [0, 200_000],
    }
    assert calculation["lines"][0] == {
        "component": "token_cost",
        "name": "input_text_uncached",
        "unit": "token",
        "quantity": 200_001,
        "list_price": "0.000002000000",
        "list_cost": "0.400002000000",
        "provider_price": "0.000002000000",
        "provider_cost": "0.400002000000",
    }
    assert calculation["price_source"]["source"] == "contract of 2026-01"
    assert second["quantities"]["input_text_cache_read"] is None, "NULL is not zero"
    for item in (*data["attempts"], *data["decisions"]):
        lines, amounts = item["calculation"]["lines"], item["counted"]
        cost = sum(Decimal(amounts[name]) for name in ("token_cost", "model_cost", "policy_cost"))
        assert sum(Decimal(line["provider_cost"]) for line in lines) == cost
        assert Decimal(amounts["provider_cost"]) == (0 if item.get("billed_by") == "internal" else cost)
        markup = sum(Decimal(each["amount"]) for each in item["calculation"]["markups"])
        assert cost + markup == Decimal(amounts["charge"])
    (total,) = data["totals"]
    assert total["charge"] == total["components_less_absorbed"]
    assert data["attribution"][0]["organisation"] == "Acme Group"
    assert data["seals"][0]["seal"] is None
    (row,) = world.client.query(
        "SELECT charge FROM request_history WHERE request_id = {id:String}", {"id": world.ids["answered"]}
    ).result_rows
    assert row[0] == Decimal(total["charge"])


def test_what_has_no_price_or_cost_nothing_says_why(world: World) -> None:
    unpriced = " ".join(world.run(world.ids["unpriced"]).stdout.split())
    assert "unpriced: no card in force (card-1) has the model 'gpt-9' of 'openai'; it is in no total" in unpriced
    assert "check: nothing has an amount: adds up" in unpriced
    cached = " ".join(world.run(world.ids["cached"]).stdout.split())
    assert "avoided, in no total: 100 input and 20 output tokens; the platform saved 0.000396000007" in cached
    saved = world.json(world.ids["cached"])["attempts"][0]["calculation"]["savings"]
    assert (saved["list_cost_avoided"], saved["provider_cost_avoided"]) == ("0.000450000011", "0.000396000007")


def test_a_list_has_a_row_for_each_request_and_its_verdict(world: World) -> None:
    shown = world.run("--trace", "trace-1").stdout
    assert "0.460553174158" in shown and "unknown" in shown and "yes" in shown
    assert [each["request_id"] for each in world.json("--trace", "trace-1")] == [
        world.ids["answered"],
        world.ids["unpriced"],
    ]
    assert len(world.json("--workload", "w-1", "--from", "2026-01-01")) == 3
    assert len(world.json("--credential", "f-1", "--to", "2026-01-01")) == 0
    assert [each["request_id"] for each in world.json("--idempotency-key", "key-1")] == [world.ids["answered"]]
    cut = world.run("--workload", "w-1", "--limit", "2")
    assert "there are more than 2 requests" in cut.stderr
    assert "no request matches" in world.run("--trace", "none").stdout


def test_without_prices_no_kafka_is_needed(world: World) -> None:
    shown = world.run(world.ids["answered"], "--without-prices", kafka=False).stdout
    assert "as recorded, prices not looked up" in " ".join(shown.split())
    assert world.json(world.ids["answered"], "--without-prices", kafka=False)["attempts"][0]["calculation"] is None


@pytest.mark.parametrize(
    ("arguments", "changes", "says"),
    [
        (("x",), {}, "error: REQUEST_ID: request 'x' is not known"),
        (("x", "--trace", "y"), {}, "error: REQUEST_ID: must be given, or at least one of --trace"),
        ((), {}, "error: REQUEST_ID: must be given, or at least one of --trace"),
        (("--trace", "y", "--gateway", "g"), {}, "error: --gateway: must be given beside REQUEST_ID only"),
        (("--from", "yesterday"), {}, "error: --from must be a UTC time such as"),
        (("x",), {"bootstrap": ""}, "error: --bootstrap: must be given, prices are in the metadata log"),
        (("x",), {"metadata_topic": "none"}, "error: --bootstrap: "),
        (("x",), {"operator_keys": "/nothing"}, "error: --operator-keys: "),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    world: World, arguments: tuple[str, ...], changes: dict[str, str], says: str
) -> None:
    result = world.run(*arguments, exit_code=2, **changes)
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_gateway_that_does_not_know_the_request_is_an_error(world: World) -> None:
    said = world.run(world.ids["cached"], "--gateway", "other", exit_code=2).stderr
    assert f"request '{world.ids['cached']}' of gateway 'other' is not known" in said


def test_a_fact_that_was_tampered_with_does_not_add_up(world: World) -> None:
    """The last test: it changes the table."""
    less = "charge = charge - toDecimal128('0.01', 12), markup = markup - toDecimal128('0.01', 12)"
    where = f"request_id = '{world.ids['answered']}' AND attempt = 2"
    mutate(world.client, "usage_facts", f"UPDATE {less} WHERE {where}")
    result = world.run(world.ids["answered"], exit_code=1)
    says = "attempt 2: charge is 0.450094300000, the lines give 0.460094300000"
    assert f"DOES NOT ADD UP: request {world.ids['answered']}: {says}" in result.stderr
    assert "DOES NOT ADD UP" in result.stdout and "adds up (" not in result.stdout
    data = json.loads(world.run(world.ids["answered"], "--json", exit_code=1).stdout)
    assert data["adds_up"] is False and says in data["problems"]
    assert "NO" in world.run("--trace", "trace-1", exit_code=1).stdout
