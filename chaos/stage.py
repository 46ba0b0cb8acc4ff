"""What a run is played on: Apache Kafka and ClickHouse behind proxies, workers that come and go, the gateways.

Whatever ends the run, nothing stays: processes are ended at the end of the block, and by the kernel where the run dies.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, Final

from chaos.saying import GATEWAYS
from clickhouse_connect.driver.client import Client

from gatemeter.processors.metadata.gateways import Connection, add_gateway, ensure_tick_gateway
from gatemeter.processors.metadata.operators import init_operator
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.processors.pricing.ratesfile import build_card
from gatemeter.processors.topics import apply_topics
from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from gatemeter.sinks.local.launcher import start
from gatemeter.sinks.migrations import migrate

if TYPE_CHECKING:
    from support.kafka import KafkaBroker
    from support.processes import Process
    from support.proxy import HttpProxy, TcpProxy

ROOT: Final = Path(__file__).resolve().parents[1]
METADATA: Final = Path(__file__).parent / "metadata"
PARTITIONS: Final = 6
TOPIC: Final = "gatemeter.events"
SESSION_MS: Final = 6_000
REQUEST_TIMEOUT_MS: Final = 8_000
OPENED: Final = "going on at offset"
"""What a worker says of each partition that it has opened."""
_CLOCK: Final = (
    "import time; real = time.time_ns; time.time_ns = lambda: real() + {offset_ns};"
    " time.time = lambda: time.time_ns() / 1e9; "
)
_WORKER: Final = "from gatemeter.cli.worker import worker; worker()"


@dataclass
class Worker:
    """One worker process. `expected_to_end`: somebody has told it to, or killed it."""

    number: int
    process: Process
    clock_s: int = 0
    expected_to_end: bool = False

    @property
    def opened(self) -> bool:
        """Whether it has opened a partition."""
        return OPENED in self.process.log

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; after one that ends it, nobody wonders that it ends."""
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.expected_to_end = True
        self.process.send(number)


@dataclass
class Stage:
    """What a run is played on. `workers` are those that should run now."""

    folder: Path
    broker: KafkaBroker
    kafka_proxy: TcpProxy
    sink_proxy: HttpProxy
    database: ClickHouseSettings
    kids: dict[str, str]
    client: Client
    workers: list[Worker] = field(default_factory=list)
    ended: list[Worker] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    """What workers said last that ended although nobody told them to."""

    def start_worker(self, clock_s: int = 0) -> Worker:
        """One more. `clock_s`: how far its clock is ahead of the true one (behind where negative)."""
        from support.processes import Process

        number = len(self.workers) + len(self.ended)
        code = (_CLOCK.format(offset_ns=clock_s * 10**9) if clock_s else "") + _WORKER
        environment = {
            "GATEMETER_BOOTSTRAP": f"127.0.0.1:{self.kafka_proxy.port}",
            "GATEMETER_TOPIC": TOPIC,
            "GATEMETER_GROUP": "chaos",
            "GATEMETER_WORKER": f"worker-{number}",
            "GATEMETER_SECRETS_FILE": str(self.folder / "secrets.json"),
            "GATEMETER_OPERATOR_KEYS_FILE": str(self.folder / "operators.json"),
            "GATEMETER_CLICKHOUSE_URL": self.sink_proxy.url,
            "GATEMETER_CLICKHOUSE_USER": self.database.user,
            "GATEMETER_CLICKHOUSE_PASSWORD": self.database.password,
            "GATEMETER_CLICKHOUSE_DATABASE": self.database.database,
            "GATEMETER_CLICKHOUSE_TIMEOUT_MS": str(REQUEST_TIMEOUT_MS),
            "GATEMETER_SESSION_TIMEOUT_MS": str(SESSION_MS),
        }
        log = self.folder / f"worker-{number}.log"
        worker = Worker(number, Process([sys.executable, "-c", code], environment, log), clock_s)
        self.workers.append(worker)
        return worker

    def remove(self, worker: Worker) -> None:
        """It is no more one of those that should run."""
        self.workers.remove(worker)
        self.ended.append(worker)

    def supervise(self) -> None:
        """Starts again what ended by itself, as whoever runs workers must; it is noted."""
        for worker in [one for one in self.workers if not one.process.running]:
            self.remove(worker)
            if not worker.expected_to_end:
                self.crashes.append(_reason(worker.process.log))
            self.start_worker(worker.clock_s)

    def checkpoints(self) -> dict[int, int]:
        """The newest `next_offset` by partition, read past the proxy."""
        query = "SELECT partition, max(next_offset) FROM ingest_batches GROUP BY partition"
        return {int(number): int(offset) for number, offset in self.client.query(query).result_rows}

    def ends(self) -> dict[int, int]:
        """The log end by partition."""
        return dict(enumerate(self.broker.end_offsets(TOPIC, PARTITIONS)))


class GatewayProcess:
    """The gateways' process: `figures` is what it said last, `finish` lets it end in order."""

    def __init__(self, stage: Stage, *, events_per_s: float, seed: int, lose_until_s: float) -> None:
        from support.kafka import die_with_parent

        plan = {
            "bootstrap": stage.broker.bootstrap,
            "topic": TOPIC,
            "partitions": PARTITIONS,
            "kids": stage.kids,
            "secrets_file": str(stage.folder / "secrets.json"),
            "events_per_s": events_per_s,
            "seed": seed,
            "lose_until_s": lose_until_s,
        }
        (stage.folder / "gateway.json").write_text(json.dumps(plan), "utf-8")
        self._folder = stage.folder
        self._output: IO[bytes] = (stage.folder / "gateway.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.gateway", str(stage.folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )

    @property
    def figures(self) -> dict[str, int]:
        """Raises `RuntimeError` where the gateways ended by themselves."""
        text = (self._folder / "gateway.log").read_text("utf-8", "replace")
        if self._process.poll() not in (None, 0):
            raise RuntimeError(f"the gateways ended:\n{text[-3000:]}")
        lines = [line for line in text.splitlines()[-2:] if line.startswith("{") and line.endswith("}")]
        return dict(json.loads(lines[-1])) if lines else {"events": 0, "resent": 0, "epochs": 0}

    def finish(self) -> dict[str, Any]:
        """What was said in all, once Kafka has it."""
        assert self._process.stdin is not None  # it was opened with a pipe
        self._process.stdin.close()
        self._process.wait(900)
        _ = self.figures  # raises where it failed
        return dict(json.loads((self._folder / "said.json").read_text("utf-8")))

    def kill(self) -> None:
        """At the end of a run that failed."""
        self._process.kill()
        self._process.wait()
        self._output.close()


@contextmanager
def stage(horizon_s: int, orphan_timer_s: int, logs: Path | None = None) -> Iterator[Stage]:
    """Starts everything but workers and gateways, and ends everything; keeps logs in the folder `logs`."""
    from support.kafka import KafkaBroker
    from support.proxy import HttpProxy, TcpProxy

    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="gatemeter-chaos-")))
        kafka_proxy = stack.enter_context(TcpProxy())
        broker = stack.enter_context(KafkaBroker(heap="1g", measured=True, proxy_port=kafka_proxy.port))
        kafka_proxy.target = ("127.0.0.1", broker.behind_proxy)
        server = stack.enter_context(start())
        sink_proxy = stack.enter_context(HttpProxy(server.url))
        database = ClickHouseSettings(server.url, server.user, server.password, "chaos")
        migrate(database)
        client = connect(database)
        stack.callback(client.close)
        kids = _register(broker.bootstrap, folder, horizon_s, orphan_timer_s)
        made = Stage(folder, broker, kafka_proxy, sink_proxy, database, kids, client)
        if logs is not None:
            stack.callback(_keep_logs, folder, logs)
        stack.callback(_end_all, made)
        yield made


def _register(bootstrap: str, folder: Path, horizon_s: int, orphan_timer_s: int) -> dict[str, str]:
    """Topics, metadata and gateways; returns the gateways' key ids."""
    operator = init_operator(folder / "operator.json", folder / "operators.json", "chaos")
    connection = Connection(bootstrap, operator, None)
    apply_topics(connection, partitions=PARTITIONS)
    (folder / "tenants.yaml").write_text(
        (METADATA / "tenants.yaml").read_text("utf-8")
        + f"parameters: {{horizon: {horizon_s}s, orphan_timer: {orphan_timer_s}s}}\n",
        "utf-8",
    )
    card = Draft("RateCard", build_card(METADATA / "rates.yaml").datum)
    connection.apply([*read_tenants_file(folder / "tenants.yaml"), card])
    ensure_tick_gateway(connection, folder / "secrets.json")
    return {
        gateway: add_gateway(connection, folder / "secrets.json", gateway, kind).kid
        for gateway, kind in GATEWAYS.items()
    }


def _reason(log: str) -> str:
    """The line in which a worker said why it ended."""
    lines = [line for line in log.splitlines() if line.strip()]
    stops = [line for line in lines if "worker stops" in line]
    errors = [line for line in lines if "Error" in line and not line.startswith(" ")]
    return (stops or errors or lines or ["nothing said"])[-1]


def _end_all(made: Stage) -> None:
    for worker in [*made.workers, *made.ended]:
        worker.process.kill()


def _keep_logs(folder: Path, logs: Path) -> None:
    logs.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.log"):
        shutil.copy(path, logs)


def end_in_order(made: Stage, timeout_s: float = 60) -> list[int]:
    """SIGTERM to all workers; their exit codes."""
    for worker in made.workers:
        worker.signal(signal.SIGTERM)
    until = time.monotonic() + timeout_s
    return [worker.process.wait(max(1.0, until - time.monotonic())) for worker in made.workers]


__all__ = ["GatewayProcess", "Stage", "Worker", "end_in_order", "stage"]
