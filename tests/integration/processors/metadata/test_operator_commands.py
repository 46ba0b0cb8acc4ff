"""The operators' commands end to end on Apache Kafka: keys, gateways, tenants and rates into force."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
import typer
from typer.testing import CliRunner

from gatemeter.cli.authorities import authorities_end, authorities_list, authorities_set
from gatemeter.cli.gateways import (
    gateways_add,
    gateways_keys,
    gateways_list,
    gateways_revoke,
    gateways_rotate,
    operators_init,
)
from gatemeter.cli.rates import rates_apply, rates_build
from gatemeter.cli.tenants import tenants_apply
from gatemeter.processors.metadata.operators import load_operator_keys
from gatemeter.processors.metadata.reading import read_metadata
from gatemeter.processors.metadata.views import View
from gatemeter.schemas.codec import decode
from gatemeter.schemas.signing import OperatorKey, load_secrets
from support.kafka import KafkaBroker

EXAMPLES = Path(__file__).parents[4] / "examples"
PARTITIONS = 2
app = typer.Typer()
COMMANDS = (
    authorities_end,
    authorities_list,
    authorities_set,
    gateways_add,
    gateways_keys,
    gateways_list,
    gateways_revoke,
    gateways_rotate,
    operators_init,
    rates_apply,
    rates_build,
    tenants_apply,
)
for command in COMMANDS:
    app.command(command.__name__)(command)


@dataclass
class Operator:
    folder: Path
    broker: KafkaBroker
    events: str
    metadata: str

    def run(self, name: str, *arguments: str, exit_code: int = 0) -> str:
        result = CliRunner().invoke(app, [name, *arguments])
        assert result.exit_code == exit_code, result.output
        return result.output

    def where(self, *, events: bool = True) -> list[str]:
        topics = ["--events-topic", self.events] if events else []
        key = ["--operator-key", str(self.folder / "operator.json")]
        return ["--bootstrap", self.broker.bootstrap, "--metadata-topic", self.metadata, *topics, *key]

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets.json"

    def view(self) -> View:
        keys = load_operator_keys(self.folder / "operators.json")
        log = read_metadata(self.broker.bootstrap, keys, topic=self.metadata).log
        return log.view(log.loaded_to)


@pytest.fixture
def operator(kafka: KafkaBroker, tmp_path: Path) -> Operator:
    suffix = uuid4().hex[:8]
    operator = Operator(tmp_path, kafka, f"events-{suffix}", f"metadata-{suffix}")
    kafka.create_topic(operator.events, partitions=PARTITIONS)
    kafka.create_topic(operator.metadata)
    files = ["--operator-key", str(tmp_path / "operator.json"), "--operator-keys", str(tmp_path / "operators.json")]
    operator.run("operators_init", "ops-1", *files)
    return operator


def test_a_gateway_gets_a_key_and_its_secret_stays_in_the_file(operator: Operator) -> None:
    secrets = ["--secrets", str(operator.secrets)]
    operator.run("gateways_add", "litellm-eu", *secrets, *operator.where())
    operator.run("gateways_add", "_tick", *secrets, *operator.where())
    operator.run("gateways_add", "_tick", *secrets, *operator.where())
    assert sorted(load_secrets(operator.secrets)) == ["_tick-1", "litellm-eu-1"]
    assert operator.secrets.stat().st_mode & 0o777 == 0o600
    view = operator.view()
    assert {kid: key.gateway_id for kid, key in view.keys.items()} == {"litellm-eu-1": "litellm-eu", "_tick-1": "_tick"}
    listed = operator.run("gateways_list", "--json", *operator.where(events=False))
    assert [row["kid"] for row in json.loads(listed)] == ["_tick-1", "litellm-eu-1"]
    assert load_secrets(operator.secrets)["litellm-eu-1"].hex() not in listed


def test_a_rotation_adds_a_key_and_ends_the_earlier_one(operator: Operator) -> None:
    secrets = ["--secrets", str(operator.secrets)]
    operator.run("gateways_add", "kong", "--kind", "api_gateway", *secrets, *operator.where())
    again = operator.run("gateways_add", "kong", *secrets, *operator.where(), exit_code=1)
    assert "error: gateway 'kong' is registered; give it another key with: gatemeter gateways rotate kong" in again
    operator.run("gateways_rotate", "kong", "--overlap", "2h", *secrets, *operator.where())
    keys = operator.view().keys
    assert keys["kong-1"].valid_to_us is not None
    assert keys["kong-2"].valid_to_us is None
    assert keys["kong-2"].gateway_kind == "api_gateway"
    overlap_us = keys["kong-1"].valid_to_us - keys["kong-2"].valid_from_us
    assert overlap_us == pytest.approx((2 * 3_600 + 5 * 60) * 1_000_000, abs=60_000_000)
    assert sorted(load_secrets(operator.secrets)) == ["kong-1", "kong-2"]


def test_a_gateway_of_kind_telemetry_corroborates_without_being_told(operator: Operator) -> None:
    operator.run("gateways_add", "traces", "--kind", "telemetry", "--secrets", str(operator.secrets), *operator.where())
    (listed,) = json.loads(operator.run("gateways_list", "--json", *operator.where(events=False)))
    assert (listed["kind"], listed["role"]) == ("telemetry", "corroborating")


def test_an_attestation_key_is_made_kept_over_a_rotation_and_changed_on_demand(operator: Operator) -> None:
    secrets = ["--secrets", str(operator.secrets)]
    operator.run("gateways_add", "kong", *secrets, *operator.where())
    own = operator.folder / "kong.attestation.json"
    assert own.stat().st_mode & 0o777 == 0o600
    operator.run("gateways_rotate", "kong", *secrets, *operator.where())
    (key,) = operator.view().gateways["kong"].attestation_keys.values()
    assert (key.public_hex, key.valid_to_us) == (OperatorKey.load(own).public_hex, None)
    next_one = operator.folder / "next.json"
    operator.run("gateways_rotate", "kong", "--attestation-key", str(next_one), *secrets, *operator.where())
    keys = operator.view().gateways["kong"].attestation_keys
    assert keys["kong-attest-1"].valid_to_us is not None
    assert keys["kong-attest-2"].public_hex == OperatorKey.load(next_one).public_hex
    shown = json.loads(operator.run("gateways_keys", *operator.where(events=False)))
    assert [(row["gateway_id"], row["kid"], row["public_key"]) for row in shown] == [
        ("kong", kid, keys[kid].public_hex) for kid in ("kong-attest-1", "kong-attest-2")
    ]
    other = ["--attestation-key", str(own), *secrets, *operator.where()]
    taken = operator.run("gateways_add", "envoy", *other, exit_code=1)
    assert "key id 'kong-attest-1' names another key already; choose another file" in taken
    operator.run("gateways_add", "envoy", "--no-attestation", *secrets, *operator.where())
    assert not operator.view().gateways["envoy"].attestation_keys


def test_a_role_is_chosen_once_and_kept_over_rotations_and_revocations(operator: Operator) -> None:
    secrets = ["--secrets", str(operator.secrets)]
    operator.run("gateways_add", "agents", "--kind", "agent_runtime", "--corroborating", *secrets, *operator.where())
    operator.run("gateways_add", "kong", *secrets, *operator.where())
    operator.run("gateways_rotate", "agents", *secrets, *operator.where())
    operator.run("gateways_revoke", "agents-1", "--reason", "old", *operator.where())
    assert operator.view().corroborating == {"agents"}
    listed = json.loads(operator.run("gateways_list", "--json", *operator.where(events=False)))
    assert {(row["kid"], row["role"]) for row in listed} == {
        ("agents-1", "corroborating"),
        ("agents-2", "corroborating"),
        ("kong-1", "charging"),
    }
    tick = operator.run("gateways_add", "_tick", "--corroborating", *secrets, *operator.where(), exit_code=1)
    assert tick == "error: --corroborating must not be given for _tick, the workers' own gateway\n"


def test_an_authority_is_set_listed_and_ended(operator: Operator) -> None:
    secrets = ["--secrets", str(operator.secrets)]
    for name, role in (("envoy", ()), ("litellm", ()), ("agents", ("--corroborating",))):
        operator.run("gateways_add", name, *role, *secrets, *operator.where())
    said = operator.run(
        "authorities_set", "envoy", "litellm", "--route", "/v1", "--from", "2026-11-01", *operator.where()
    )
    assert "gateway envoy, route /v1: litellm makes the facts from 2026-11-01T00:00:00" in said
    operator.run("authorities_end", "envoy", "--route", "/v1", "--at", "2026-12-01", *operator.where())
    (row,) = json.loads(operator.run("authorities_list", "--json", *operator.where(events=False)))
    assert row == {
        "gateway_id": "envoy",
        "route": "/v1",
        "authority": "litellm",
        "effective_from": "2026-11-01T00:00:00.000000Z",
        "effective_to": "2026-12-01T00:00:00.000000Z",
    }
    at_us = 1_796_083_200_000_000  # 2026-12-01
    assert [operator.view().authority("envoy", "/v1", at_us - before) for before in (1, 0)] == ["litellm", ""]
    operator.run("authorities_set", "envoy", "litellm", "--from", "2026-12-01", *operator.where())
    for arguments, problem in (
        (("authorities_set", "envoy", "nginx"), "gateway 'nginx' is not registered; known are agents, envoy, litellm"),
        (("authorities_set", "envoy", "agents"), "gateway 'agents' is corroborating: it makes no facts"),
        (("authorities_set", "agents", "envoy"), "gateway 'agents' is corroborating: all of its events are evidence"),
        (("authorities_set", "litellm", "envoy", "--from", "2027-01-01"), "litellm → envoy → litellm is a circle"),
        (("authorities_end", "litellm"), "gateway 'litellm' has no authority on route '*' at"),
        (("authorities_end", "envoy", "--at", "2026-12-01"), "time must be after 2026-12-01T00:00:00"),
    ):
        assert problem in operator.run(*arguments, *operator.where(), exit_code=1)


def test_a_revoked_key_ends_at_the_time_that_was_said(operator: Operator) -> None:
    operator.run("gateways_add", "kong", "--secrets", str(operator.secrets), *operator.where())
    where = [*operator.where(), "--reason", "laptop stolen"]
    early = operator.run("gateways_revoke", "kong-1", "--at", "2020-01-01", *where, exit_code=1)
    assert "error: time must be after" in early
    operator.run("gateways_revoke", "kong-1", *where)
    operator.run("gateways_revoke", "kong-attest-1", *where)
    gateway = operator.view().gateways["kong"]
    assert not gateway.keys["kong-1"].valid_at(time.time_ns() // 1_000)
    assert not gateway.attestation_keys["kong-attest-1"].valid_at(time.time_ns() // 1_000)
    late = operator.run("gateways_revoke", "kong-1", "--at", "2099-01-01", *where, exit_code=1)
    assert "error: key 'kong-1' ends at" in late
    unknown = operator.run("gateways_revoke", "kong-9", *where, exit_code=1)
    assert "error: key id 'kong-9' is not registered; known are kong-1" in unknown


def test_the_reason_of_a_change_stands_in_its_control_records(operator: Operator) -> None:
    card = ["--reason", "new contract", *operator.where()]
    operator.run("tenants_apply", str(EXAMPLES / "tenants.yaml"), *card)
    for partition in range(PARTITIONS):
        (record,) = operator.broker.records(operator.events, partition)
        assert decode(record.value() or b"").datum["reason"] == "new contract"


def test_a_bad_kind_is_one_line(operator: Operator) -> None:
    output = operator.run("gateways_add", "x", "--kind", "toaster", *operator.where(), exit_code=1)
    assert output == (
        "error: kind must be one of api_gateway, inference_proxy, agent_runtime, policy_point, telemetry,"
        " got 'toaster'\n"
    )


def test_the_examples_come_into_force_once(operator: Operator) -> None:
    card = str(operator.folder / "card.json")
    operator.run("rates_build", str(EXAMPLES / "rates.yaml"), "--out", card, "--left-out")
    assert "1 published" in operator.run("rates_apply", card, *operator.where())
    assert "14 published" in operator.run("tenants_apply", str(EXAMPLES / "tenants.yaml"), *operator.where())
    again = operator.run("tenants_apply", str(EXAMPLES / "tenants.yaml"), *operator.where())
    assert "0 published, 14 unchanged; in force in 2 partitions: metadata below offset 15" in again
    assert "0 published, 1 unchanged" in operator.run("rates_apply", card, *operator.where())
    view = operator.view()
    rate = view.rate("azure", "contoso-gpt-4o", "", "realtime", "", 1_790_000_000_000_000)
    assert rate is not None
    assert rate.tiers[0].list_pico["input_text_uncached"] == 2_500_000
    assert rate.tiers[0].provider_pico["input_text_uncached"] == 2_200_000
    attribution = view.attribution("acme", "quote-bot", 1_790_000_000_000_000)
    assert (attribution.plan.markup_ppm, attribution.plan.retry_rule) == (200_000, "final_only")


def test_a_published_card_never_changes(operator: Operator) -> None:
    card = operator.folder / "card.json"
    for price, exit_code in (("0.10", 0), ("0.20", 1)):
        rates = operator.folder / "rates.yaml"
        rates.write_text(
            "card_id: own\neffective_from: 2026-01-01\nproviders: []\n"
            f"models: [{{provider: internal, model: m, prices: {{input_text_uncached: {price}}}}}]\n"
        )
        operator.run("rates_build", str(rates), "--out", str(card))
        output = operator.run("rates_apply", str(card), *operator.where(), exit_code=exit_code)
    assert "cards are immutable; build a new one with another card_id or effective_from" in output


def test_a_missing_plan_is_named_with_the_known_ones(operator: Operator) -> None:
    path = operator.folder / "tenants.yaml"
    path.write_text("plans: [{plan: a}, {plan: b}]\ntenants: [{tenant: acme, cost_centre: CC-1, plan: c}]\n")
    output = operator.run("tenants_apply", str(path), *operator.where(), exit_code=1)
    assert output == "error: tenants.yaml: tenant 'acme': plan must be a known plan (a, b), got 'c'\n"


def test_an_operator_key_is_made_once(operator: Operator) -> None:
    before = (operator.folder / "operator.json").read_bytes()
    files = [
        "--operator-key",
        f"{operator.folder}/operator.json",
        "--operator-keys",
        f"{operator.folder}/operators.json",
    ]
    operator.run("operators_init", "ops-1", *files)
    assert (operator.folder / "operator.json").read_bytes() == before
    assert "holds the key of operator 'ops-1'" in operator.run("operators_init", "ops-2", *files, exit_code=1)


@pytest.mark.parametrize("name", [command.__name__ for command in COMMANDS])
def test_every_command_shows_an_example(name: str) -> None:
    assert "Example: gatemeter " in CliRunner().invoke(app, [name, "--help"]).output
