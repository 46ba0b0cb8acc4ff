"""Heartbeats attest what was sent: a signed chain a partition, whatever the batches, never for another process."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gatemeter.producers import Emitter, EmitterSettings, SettingsError
from gatemeter.producers.attestation import Attestor
from gatemeter.producers.transport import Outcome
from gatemeter.schemas import codec
from gatemeter.schemas.signing import OperatorKey
from support.producers import FakeTransport, Sent, request, settings, wait_until

KEY = OperatorKey.generate("gw-attest")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    KEY.save(tmp_path / "attest.json")
    return tmp_path / "attest.json"


def digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


def opened(value: bytes) -> tuple[dict[str, Any], bytes]:
    """The statement of an envelope and its bytes; the signature is verified."""
    envelope = codec.decode(value).datum
    assert envelope["kid"] == KEY.kid
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(KEY.public_hex))
    public.verify(envelope["signature"], envelope["attestation"])
    return codec.decode(envelope["attestation"]).datum, envelope["attestation"]


def chains(records: list[Sent], epoch: str) -> dict[int, list[dict[str, Any]]]:
    """By partition the statements of an epoch; each follows the one before it and covers what was sent."""
    hashes: dict[tuple[int, int], bytes] = {}
    for record in records:
        batch = record.batch
        if batch["epoch"] == epoch:
            for index, event in enumerate(batch["events"]):
                hashes[record.partition, batch["first_sequence"] + index] = event["content_hash"]
    found: dict[int, list[dict[str, Any]]] = {}
    previous: dict[int, bytes] = {}
    for record in records:
        batch = record.batch
        if batch["epoch"] != epoch or batch["attestation"] is None:
            continue
        assert not batch["events"]
        statement, value = opened(batch["attestation"])
        partition = record.partition
        assert (statement["gateway_id"], statement["epoch"], statement["topic"], statement["partition"]) == (
            *("gw", epoch, batch["topic"]),
            partition,
        )
        assert statement["previous"] == previous.get(partition, bytes(32))
        covered = range(statement["from_sequence"], statement["to_sequence"])
        assert statement["events_digest"] == digest(b"".join(hashes[partition, number] for number in covered))
        assert statement["to_sequence"] <= batch["first_sequence"]
        previous[partition] = digest(value)
        found.setdefault(partition, []).append(statement)
    return found


def ranges(statements: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(entry["from_sequence"], entry["to_sequence"]) for entry in statements]


def test_a_closed_epoch_is_attested_from_the_first_event_to_the_last(tmp_path: Path, key_file: Path) -> None:
    transport = FakeTransport(partitions=3)
    chosen = settings(tmp_path / "spool", attestation_key_file=key_file, heartbeat_seconds=1, batch_events=3)
    emitter = Emitter(chosen, connect=transport)
    epoch = emitter.epoch
    for _ in range(40):
        emitter.request(request())
    wait_until(lambda: any(record.batch["attestation"] for record in tuple(transport.sent)))
    for _ in range(20):
        emitter.request(request())
    emitter.close(10)
    found = chains(transport.sent, epoch)
    assert sorted(found) == [0, 1, 2]
    ends = {record.partition: record.batch["first_sequence"] for record in transport.sent if record.batch["closed"]}
    assert sum(ends.values()) == 60
    for partition, statements in found.items():
        covered = ranges(statements)
        assert covered[0][0] == 0
        assert [end for _, end in covered[:-1]] == [first for first, _ in covered[1:]]
        assert covered[-1][1] == ends[partition]


def test_a_heartbeat_with_nothing_new_attests_nothing_and_the_last_one_does(key_file: Path) -> None:
    transport = FakeTransport(partitions=1)
    emitter = Emitter(settings(None, attestation_key_file=key_file, heartbeat_seconds=1), connect=transport)
    epoch = emitter.epoch
    wait_until(lambda: len(transport.sent) >= 2)
    emitter.close(10)
    assert [bool(record.batch["attestation"]) for record in transport.sent[:2]] == [False, False]
    assert ranges(chains(transport.sent, epoch)[0]) == [(0, 0)]


def test_an_attestation_is_sent_again_until_it_is_delivered(key_file: Path) -> None:
    transport = FakeTransport(partitions=1)
    emitter = Emitter(settings(None, attestation_key_file=key_file, heartbeat_seconds=1), connect=transport)
    epoch = emitter.epoch
    wait_until(lambda: transport.sent)
    emitter.request(request())
    wait_until(lambda: emitter.counters().delivered == 1)
    transport.refuse += [Outcome.FAILED] * 2
    wait_until(lambda: any(record.batch["attestation"] for record in tuple(transport.sent)))
    emitter.request(request())
    emitter.close(10)
    assert ranges(chains(transport.sent, epoch)[0]) == [(0, 1), (1, 2)]


def test_without_a_key_nothing_is_attested() -> None:
    transport = FakeTransport(partitions=1)
    emitter = Emitter(settings(None), connect=transport)
    emitter.request(request())
    emitter.close(10)
    assert not any(record.batch["attestation"] for record in transport.sent)


def test_a_hole_ends_one_statement_and_begins_another() -> None:
    attestor = Attestor(KEY, "gw", "1-1-0000000000000001", "t")
    hashes = [bytes([number]) * 16 for number in range(6)]
    for sequence in (0, 1, 4, 5):
        attestor.add(0, sequence, hashes[sequence])
    (first, first_value), (second, _) = [opened(value) for value in attestor.envelopes(0)]
    assert ranges([first, second]) == [(0, 2), (4, 6)]
    assert second["previous"] == digest(first_value)
    assert second["events_digest"] == digest(hashes[4] + hashes[5])
    assert attestor.envelopes(0) == []


def _emit_and_die(folder: Path, key_file: Path) -> None:
    transport = FakeTransport()
    transport.up = False
    emitter = Emitter(settings(folder, attestation_key_file=key_file), connect=transport)
    for _ in range(30):
        emitter.request(request())
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_heir_of_a_spool_does_not_attest_for_the_dead(tmp_path: Path, key_file: Path) -> None:
    folder = tmp_path / "spool"
    process = multiprocessing.get_context("fork").Process(target=_emit_and_die, args=(folder, key_file))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    (dead,) = [path.name for path in folder.iterdir() if path.is_dir()]
    transport = FakeTransport()
    emitter = Emitter(settings(folder, attestation_key_file=key_file), connect=transport)
    own = emitter.epoch
    emitter.request(request())
    emitter.close(10)
    assert sum(len(record.batch["events"]) for record in transport.sent if record.batch["epoch"] == dead) == 30
    assert chains(transport.sent, dead) == {}
    assert sum(after - first for each in chains(transport.sent, own).values() for first, after in ranges(each)) == 1


def test_a_forked_child_attests_its_own_epoch(tmp_path: Path, key_file: Path) -> None:
    transport = FakeTransport(partitions=1)
    emitter = Emitter(settings(None, attestation_key_file=key_file), connect=transport)
    parent = emitter.epoch
    emitter.request(request())
    wait_until(lambda: emitter.counters().delivered == 1)
    emitter._after_fork_in_child()
    emitter.request(request())
    child = emitter.epoch
    emitter.close(10)
    assert child != parent
    assert ranges(chains(transport.sent, child)[0]) == [(0, 1)]


def test_a_key_file_that_cannot_be_used_shows_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"attestation_key_file: .*nowhere.json: must hold JSON with kid and private"
    ):
        Emitter(settings(None, attestation_key_file=tmp_path / "nowhere.json"), connect=FakeTransport())


def test_the_environment_names_the_key_file(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEMETER_ATTESTATION_KEY_FILE", str(key_file))
    chosen = EmitterSettings.from_environment(
        bootstrap="b:1", gateway_id="gw", gateway_kind="policy_point", kid="k", secret=b"s" * 32, spool_mode="memory"
    )
    loaded = chosen.attestation_key()
    assert loaded is not None and loaded.kid == KEY.kid
