"""The gateways as one process: says what the speaker says, batched, signed, paced, and re-sent now and then.

    python -m chaos.gateway FOLDER      reads FOLDER/gateway.json, ends in order when its standard input is closed

Prints a line of JSON a second with what was sent so far; writes FOLDER/said.json and FOLDER/said.arrow at its end.
"""

from __future__ import annotations

import json
import os
import random
import select
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from chaos.oracle import MEASURES, Oracle
from chaos.saying import EVENTS_PER_CALL, GATEWAYS, Speaker
from confluent_kafka import Producer

from gatemeter.schemas import codec, signing
from gatemeter.schemas.partitions import partition_of
from gatemeter.schemas.signing import load_secrets

BATCH: Final = 50
LINGER_SECONDS: Final = 0.2
STEP_SECONDS: Final = 0.02
EPOCH_SECONDS: Final = 75
HEARTBEAT_SECONDS: Final = 10
DELIVERY_SECONDS: Final = 600


@dataclass(frozen=True)
class Plan:
    """What `gateway.json` says. `lose_until_s`: no answers are lost later than this, counted from the start."""

    bootstrap: str
    topic: str
    partitions: int
    kids: dict[str, str]
    secrets_file: str
    events_per_s: float
    seed: int
    lose_until_s: float


class Line:
    """One gateway's events to one partition: they are numbered here. Batches of the last minutes can be sent again."""

    def __init__(self, sender: Sender, gateway: str, epoch: str, partition: int) -> None:
        self._sender, self._gateway, self._epoch, self._partition = sender, gateway, epoch, partition
        self._waiting: list[bytes] = []
        self._since = 0.0
        self._sent: deque[tuple[int, list[bytes]]] = deque(maxlen=200)
        self.next_sequence = 0

    def add(self, body: bytes) -> None:
        """Takes an event; sends a batch where it is full."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(body)
        if len(self._waiting) == BATCH:
            self.send()

    def linger(self, now: float) -> None:
        """Sends what has waited for long enough."""
        if self._waiting and now - self._since >= LINGER_SECONDS:
            self.send()

    def send(self) -> None:
        """Sends what waits."""
        bodies, self._waiting = self._waiting, []
        if bodies:
            self._send(self.next_sequence, bodies)
            self._sent.append((self.next_sequence, bodies))
            self.next_sequence += len(bodies)

    def again(self, rng: random.Random) -> int:
        """Sends something old again: one batch as it was, or two cut anew. Returns how many events."""
        if len(self._sent) < 2:
            return 0
        at = rng.randrange(len(self._sent) - 1)
        (first, bodies), (_, following) = self._sent[at], self._sent[at + 1]
        if rng.random() < 0.5:
            cut = rng.randrange(len(bodies))
            first, bodies = first + cut, [*bodies[cut:], *following[: rng.randrange(len(following) + 1)]]
        self._send(first, bodies)
        return len(bodies)

    def heartbeat(self, *, closed: bool) -> None:
        """Says how far it has come."""
        self._send(self.next_sequence, [], closed=closed)

    def _send(self, first: int, bodies: list[bytes], *, closed: bool = False) -> None:
        envelope = {
            "gateway_id": self._gateway,
            "gateway_kind": GATEWAYS[self._gateway],
            "epoch": self._epoch,
            "partition": self._partition,
            "first_sequence": first,
            "sent_at": time.time_ns() // 1000,
            "counters": {"emitted": self.next_sequence + len(self._waiting), "spooled": 0, "dropped": 0},
            "closed": closed,
            "attestation": None,
        }
        self._sender.send(self._gateway, self._partition, envelope, bodies)


class Sender:
    """Signs and hands to Kafka. A record that is not delivered ends the process: the oracle would be wrong."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._secrets = load_secrets(Path(plan.secrets_file))
        self._failed: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": plan.bootstrap,
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 20,
                "delivery.timeout.ms": DELIVERY_SECONDS * 1000,
                "log_level": 0,
            }
        )

    def send(self, gateway: str, partition: int, envelope: dict[str, Any], bodies: list[bytes]) -> None:
        """One record."""
        kid = self._plan.kids[gateway]
        value = codec.encode_batch({**envelope, "topic": self._plan.topic}, bodies)
        headers = [(signing.KID_HEADER, kid.encode()), (signing.MAC_HEADER, signing.mac(self._secrets[kid], value))]
        while True:
            try:
                self._producer.produce(
                    self._plan.topic, value, gateway.encode(), partition, headers=headers, on_delivery=self._report
                )
                return
            except BufferError:
                self._producer.poll(0.1)

    def _report(self, error: Any, _: Any) -> None:
        if error is not None:
            self._failed.append(str(error))

    def poll(self) -> None:
        """Serves delivery reports."""
        self._producer.poll(0)
        self._check()

    def flush(self) -> None:
        """Returns when Kafka has everything."""
        if self._producer.flush(DELIVERY_SECONDS):
            self._failed.append("not delivered in time")
        self._check()

    def _check(self) -> None:
        if self._failed:
            raise RuntimeError(f"the gateways could not deliver: {self._failed[0]}")


class Gateways:
    """All gateways, each with an epoch that changes now and then, as after a restart."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._sender = plan, Sender(plan)
        self._rng = random.Random(plan.seed + 1)
        self.oracle = Oracle()
        began_us = time.time_ns() // 1000
        self._speaker = Speaker(plan.seed, self.oracle, began_us + int(plan.lose_until_s * 1e6))
        self._lines: dict[str, dict[int, Line]] = {}
        self._old: deque[dict[int, Line]] = deque(maxlen=4)
        self.figures = {"events": 0, "resent": 0, "epochs": 0}
        for gateway in GATEWAYS:
            self._begin(gateway)

    def _begin(self, gateway: str) -> None:
        epoch = f"{time.time_ns() // 1000}-{os.getpid()}-{self._rng.getrandbits(64):016x}"
        self._lines[gateway] = {n: Line(self._sender, gateway, epoch, n) for n in range(self._plan.partitions)}
        self.figures["epochs"] += 1

    def restart(self, gateway: str) -> None:
        """Closes the epoch and begins another; batches of the old one may still be sent again."""
        self._close(gateway)
        self._old.append(self._lines[gateway])
        self._begin(gateway)

    def _close(self, gateway: str) -> None:
        for line in self._lines[gateway].values():
            line.send()
            line.heartbeat(closed=True)

    def step(self, calls: int) -> None:
        """Begins calls, says what is due, and sends what has waited."""
        now_us = time.time_ns() // 1000
        for _ in range(calls):
            self._speaker.call(now_us)
        for gateway, event in self._speaker.due(now_us):
            number = partition_of(event["request_id"], self._plan.partitions)
            self._lines[gateway][number].add(codec.encode_event(event))
            self.figures["events"] += 1
        now = time.monotonic()
        for lines in self._lines.values():
            for line in lines.values():
                line.linger(now)
        if self._rng.random() < 0.05:
            self._again()
        self._sender.poll()

    def _again(self) -> None:
        lines = self._rng.choice([*self._lines.values(), *self._old])
        self.figures["resent"] += lines[self._rng.randrange(self._plan.partitions)].again(self._rng)

    def heartbeats(self) -> None:
        """One of every line."""
        for lines in self._lines.values():
            for line in lines.values():
                line.heartbeat(closed=False)

    def finish(self) -> None:
        """Says to the end what was begun, closes all epochs, and waits until Kafka has it."""
        while not self._speaker.silent:
            self.step(0)
            time.sleep(STEP_SECONDS)
        for gateway in GATEWAYS:
            self._close(gateway)
        self._sender.flush()


def speak(gateways: Gateways, calls_per_s: float) -> None:
    """Until standard input is closed."""
    began = time.monotonic()
    begun, said_at, epoch_at, heard_at = 0, began, began, began
    while not select.select([sys.stdin], [], [], 0)[0]:
        now = time.monotonic()
        due = int((now - began) * calls_per_s) - begun
        gateways.step(min(due, int(calls_per_s)))
        begun += due  # where it could not keep up, it does not catch up: nobody calls twice for being late
        if now - heard_at >= HEARTBEAT_SECONDS:
            heard_at = now
            gateways.heartbeats()
        if now - epoch_at >= EPOCH_SECONDS:
            epoch_at = now
            gateways.restart(tuple(GATEWAYS)[gateways.figures["epochs"] % len(GATEWAYS)])
        if now - said_at >= 1:
            said_at = now
            print(json.dumps(gateways.figures), flush=True)
        time.sleep(STEP_SECONDS)


def write(folder: Path, gateways: Gateways) -> None:
    """What was said: figures and totals, and a line a key."""
    totals = [[*key, *(total[name] for name in MEASURES)] for key, total in sorted(gateways.oracle.totals().items())]
    (folder / "said.json").write_text(json.dumps({**gateways.figures, "totals": totals}), "utf-8")
    rows = [
        {"gateway_id": gateway, "id": identity, "attempt": attempt, **{k: str(v) for k, v in asdict(line).items()}}
        for (gateway, identity, attempt), line in gateways.oracle.lines.items()
    ]
    with pa.ipc.new_file(folder / "said.arrow", (table := pa.Table.from_pylist(rows)).schema) as writer:
        writer.write_table(table)


def main() -> None:
    """One run."""
    folder = Path(sys.argv[1])
    plan = Plan(**json.loads((folder / "gateway.json").read_text("utf-8")))
    gateways = Gateways(plan)
    speak(gateways, plan.events_per_s / EVENTS_PER_CALL)
    gateways.finish()
    write(folder, gateways)
    print(json.dumps(gateways.figures), flush=True)


if __name__ == "__main__":
    main()
