"""Trust and the way back on Apache Kafka: what is forged is refused for its reason; what was refused comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from gatemeter.cli import quarantine_acting, quarantine_reading
from gatemeter.processors.metadata.entries import Gateway, GatewayKey
from gatemeter.processors.metadata.gateways import add_gateway, draft_of
from gatemeter.processors.metadata.keyrotation import revoke_key, rotate_gateway
from gatemeter.producers import now_us
from gatemeter.schemas.signing import load_secrets, new_secret, save_secrets
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.kafka import KafkaBroker
from support.processes import Process, Processes
from support.sender import Sender, response
from support.spine import Spine

HOUR_US = 3_600_000_000
app = typer.Typer()
for command in (
    quarantine_reading.quarantine_list,
    quarantine_reading.quarantine_show,
    quarantine_acting.quarantine_replay,
    quarantine_acting.quarantine_discard,
):
    app.command(command.__name__.removeprefix("quarantine_"))(command)


class World:
    """A system with a worker, and the commands of its operator."""

    def __init__(self, spine: Spine, database: ClickHouseSettings, client: Client) -> None:
        self.spine, self.database, self.client = spine, database, client
        self.worker: Process = spine.worker(database, GATEMETER_TICK_AFTER_MS="600000")

    def sunk(self) -> None:
        self.spine.wait_until_sunk(self.client, self.worker)

    def reasons(self) -> list[str]:
        query = "SELECT reason FROM quarantine FINAL ORDER BY recorded_at, partition, offset, event_index"
        return [row[0] for row in self.client.query(query).result_rows]

    def requests(self) -> set[str]:
        return {row[0] for row in self.client.query("SELECT DISTINCT request_id FROM usage_facts").result_rows}

    def conserved(self) -> bool:
        return self.client.command("SELECT countIf(NOT ok) FROM conservation") == 0

    def run(self, name: str, *arguments: str, kafka: bool = False, exit_code: int = 0) -> str:
        url = ["--clickhouse-url", self.database.url, "--clickhouse-database", self.database.database]
        where = [*url, "--clickhouse-user", self.database.user, "--clickhouse-password", self.database.password]
        if kafka:
            key = str(self.spine.folder / "operator.json")
            where += ["--bootstrap", self.spine.kafka.bootstrap, "--operator-key", key]
        result = CliRunner().invoke(app, [name, *arguments, *where])
        assert result.exit_code == exit_code, result.output
        return result.output

    def json(self, name: str, *arguments: str, kafka: bool = False) -> Any:
        return json.loads(self.run(name, *arguments, "--json", kafka=kafka))


@pytest.fixture
def world(
    kafka: KafkaBroker, tmp_path: Path, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> Iterator[World]:
    with Processes(tmp_path) as processes:
        spine = Spine(kafka, tmp_path, processes, partitions=2)
        yield World(spine, clickhouse_database, clickhouse_client)


def test_what_is_copied_tampered_stolen_expired_or_revoked_is_refused_and_the_good_beside_it_counts(
    world: World,
) -> None:
    spine, secrets = world.spine, world.spine.folder / "secrets.json"
    other_kid = add_gateway(spine.connection, secrets, "kong", "api_gateway").kid
    sender, other = Sender(spine), Sender(spine, "kong", other_kid)
    verified, claimed = response(), response(identity_source="header_claim")
    good = sender.batch(verified, claimed)
    sender.send(good)
    sender.append(good, sender.signed(good), partition=1)  # a copy, as it is, elsewhere
    value = sender.batch(response())
    tampered = bytes([*value[:-3], value[-3] ^ 1, *value[-2:]])
    sender.append(tampered, sender.signed(value))
    sender.append(value, other.signed(value))  # headers of another gateway's key
    sender.append(value, [sender.signed(value)[0], other.signed(value)[1]])
    stolen = sender.batch(response(), gateway_id="kong")  # litellm's key speaks for kong
    sender.append(stolen, sender.signed(stolen))
    sender.flush()
    world.sunk()
    first_refused = ["wrong_partition", "bad_mac", "wrong_gateway", "bad_mac", "wrong_gateway"]
    assert sorted(world.reasons()) == sorted(first_refused)

    new_kid = rotate_gateway(spine.connection, secrets, "kong", overlap_us=60_000_000).kid
    both_valid = Sender(spine, "kong", other_kid), Sender(spine, "kong", new_kid)
    during = [response(), response()]
    for each, event in zip(both_valid, during, strict=True):
        each.send(each.batch(event))
        each.flush()
    world.sunk()
    revoke_key(spine.connection, other_kid, now_us() - 1_000, reason="the overlap is over early")
    expired = Sender(spine, "kong", other_kid)
    expired.send(expired.batch(response()))
    expired.flush()
    revoke_key(spine.connection, new_kid, now_us() - 1_000, reason="laptop stolen")
    both_valid[1].send(both_valid[1].batch(response()))
    both_valid[1].flush()
    last = response()
    sender.send(sender.batch(last, first_sequence=2))
    sender.flush()
    world.sunk()
    assert sorted(world.reasons()) == sorted([*first_refused, "key_not_valid", "key_not_valid"])
    counted = (verified, claimed, *during, last)
    assert world.requests() == {event["request_id"] for event in counted}
    query = "SELECT request_id, evidence_grade FROM usage_facts FINAL"
    grades = dict(world.client.query(query).result_rows)
    assert grades == {event["request_id"]: "B" if event is claimed else "A" for event in counted}
    assert world.conserved()
    log = (
        "SELECT act, subject, reason, kid FROM operator_log FINAL WHERE reason != '' ORDER BY offset, topic, partition"
    )
    acts = {tuple(row) for row in world.client.query(log).result_rows}
    assert ("Gateway", "kong", "laptop stolen", "ops") in acts
    assert {reason for act, _, reason, _ in acts if act == "control"} == {"the overlap is over early", "laptop stolen"}


def test_trace_02_what_was_refused_comes_back_by_command_and_counts_once(world: World) -> None:
    spine, secrets = world.spine, world.spine.folder / "secrets.json"
    secret = new_secret()
    late = Sender(spine, "envoy", "envoy-1", secret=secret)
    sender = Sender(spine)
    lost, good, ahead = [response(), response()], response(), response(occurred_at=now_us() + 304 * 1_000_000)
    late.send(late.batch(*lost))
    late.flush()  # the list is in the order of the log
    sender.send(sender.batch(good, ahead, response(input_text_uncached=-1)))
    sender.send(b"noise")
    sender.flush()
    world.sunk()
    assert "unknown_key: register the gateway's key" in world.run("list")
    listed = world.json("list")
    assert [(row["state"], row["reason"], row["event_index"]) for row in listed] == [
        ("open", "unknown_key", -1),
        ("open", "future", 1),
        ("open", "invalid", 2),
        ("open", "not_avro", -1),
    ]
    assert listed[0]["claims"] == {
        "gateway_id": "envoy",
        "epoch": late.epoch,
        "first_sequence": 0,
        "next_sequence": 2,
    }
    again = world.json("replay", "--gateway", "envoy", kafka=True)
    assert [(row["state"], row["refused"][0]["reason"]) for row in again["results"]] == [
        ("refused_again", "unknown_key")
    ]

    save_secrets(secrets, {**load_secrets(secrets), "envoy-1": secret})
    key = GatewayKey("envoy", "api_gateway", now_us() - HOUR_US)
    spine.connection.apply([draft_of(Gateway("envoy", {"envoy-1": key}), "api_gateway")], "registered too late")
    time.sleep(max(0.0, (ahead["occurred_at"] - now_us()) / 1e6 - 298))  # within the bound of 5 minutes by then
    replayed = world.json("replay", "--all", kafka=True)
    states = [(row["state"], row["facts"], [each["reason"] for each in row["refused"]]) for row in replayed["results"]]
    assert states == [
        ("partly_refused", 1, ["invalid"]),
        ("refused_again", 0, ["not_avro"]),
        ("admitted", 2, []),
    ]
    assert world.json("replay", "--gateway", "envoy", kafka=True)["replayed"] == 0
    assert world.requests() == {event["request_id"] for event in (*lost, good, ahead)}
    assert world.client.command("SELECT count() FROM usage_facts FINAL") == 4

    left = world.json("list", "--state", "open")
    assert [row["reason"] for row in left] == ["invalid", "not_avro"]
    missing = world.run("discard", "--all", "--reason", " ", kafka=True, exit_code=1)
    assert missing.startswith("error: --reason must be 1 to 256 characters")
    unchosen = world.run("discard", "--reason", "test traffic", kafka=True, exit_code=2)
    assert "choose records by an option such as --offset" in unchosen
    given_up = world.json("discard", "--all", "--reason", "test traffic", kafka=True)
    assert given_up["discarded"] == 2
    world.sunk()
    assert world.json("list", "--state", "open") == []
    discarded = world.json("list", "--state", "discarded")
    assert {(row["discard_reason"], row["discarded_by"]) for row in discarded} == {("test traffic", "ops")}
    shown = world.json("show", "0", str(discarded[0]["offset"]))
    assert shown["schema"] == "GatewayBatch"
    assert shown["content"]["events"][2]["input_text_uncached"] == -1
    assert shown["refused"][0]["state"] == "discarded"
    text = world.run("show", "0", str(discarded[1]["offset"]))
    assert "content: not_avro" in text
    assert f"bytes: {b'noise'.hex()}" in text
    assert "error: partition 1 offset 77: no refused record is there" in world.run("show", "1", "77", exit_code=2)
    assert "refused_again" in world.run("list")
    assert world.conserved()


def test_a_record_of_an_expired_key_is_admitted_by_an_operator_who_says_why(world: World) -> None:
    spine, secrets = world.spine, world.spine.folder / "secrets.json"
    kid = add_gateway(spine.connection, secrets, "kong", "api_gateway").kid
    revoke_key(spine.connection, kid, now_us() - 1_000, reason="moved to another cloud")
    sender, late = Sender(spine, "kong", kid), response()
    sender.send(sender.batch(late))
    sender.flush()
    world.sunk()
    assert world.json("replay", "--all", kafka=True)["results"][0]["state"] == "refused_again"
    assert world.requests() == set()
    wanted = ["replay", "--refused-for", "key_not_valid", "--admit-expired"]
    assert "--reason must be" in world.run(*wanted, kafka=True, exit_code=1)
    done = world.json(*wanted, "--reason", "spooled before it ended", kafka=True)
    assert (done["admits"], [row["state"] for row in done["results"]]) == (1, ["admitted"])
    assert world.requests() == {late["request_id"]}
    query = "SELECT act, reason FROM operator_log FINAL WHERE act = 'admit'"
    assert world.client.query(query).result_rows == [("admit", "spooled before it ended")]
    assert world.conserved()


def test_sequences_that_a_stranger_names_are_given_up_only_when_asked_for_and_also_afterwards(world: World) -> None:
    stranger = Sender(world.spine, "envoy", "envoy-1", secret=new_secret())
    stranger.send(stranger.batch(response(), response()))
    stranger.flush()
    world.sunk()
    assert world.json("discard", "--all", "--reason", "a laptop", kafka=True)["discarded"] == 1
    world.sunk()
    assert world.json("discard", "--all", "--reason", "a laptop", kafka=True)["discarded"] == 0
    claimed = ["discard", "--all", "--claimed-sequences", "--reason", "it was ours"]
    (given_up,) = world.json(*claimed, kafka=True)["results"]
    assert given_up["claims"]["next_sequence"] == 2
    world.sunk()
    assert world.json(*claimed, kafka=True)["discarded"] == 0
    (row,) = world.json("list")
    assert (row["state"], row["sequences_given_up"], row["discard_reason"]) == ("discarded", True, "a laptop")
    assert row["to_do"] == ""
    assert world.conserved()
