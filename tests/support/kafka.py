"""Apache Kafka itself as one process: a KRaft broker of one node on free ports, from Maven artifacts.

Tests use the fixture `kafka`; benchmarks put `tests/` on sys.path and use the class:

    with KafkaBroker() as broker:
        broker.create_topic("events", partitions=12)
        ... broker.bootstrap ...

The jars are fetched once into `<repository>/.cache/kafka/<digest of pom.xml>` (Java 17 and Maven must be there).
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import hashlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import pytest
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

POM: Final = Path(__file__).parent / "kafka" / "pom.xml"
CACHE: Final = Path(__file__).resolve().parents[2] / ".cache" / "kafka"
START_SECONDS: Final = 90
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)

_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
log.dirs={folder}/data
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
"""


def libraries() -> Path:
    """The folder of Kafka's jars; fetched with Maven on first use by one process at a time, put in place as a whole."""
    target = CACHE / hashlib.sha256(POM.read_bytes()).hexdigest()[:16]
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _fetch(target)
    return target


def _fetch(target: Path) -> None:
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=CACHE))
    try:
        shutil.copy(POM, draft / "pom.xml")
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={draft / 'libs'}"]
        done = subprocess.run(command, cwd=draft, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise RuntimeError(f"mvn could not fetch Apache Kafka:\n{done.stdout}{done.stderr}")
        (draft / "libs").rename(target)
    finally:
        shutil.rmtree(draft)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def die_with_parent() -> None:
    """For `preexec_fn`: the child is killed when the thread that started it ends, whatever ends it."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _with_proxied_listener(properties: str, port: int, proxy_port: int) -> str:
    """The same broker with a listener more, which tells its clients the proxy's address."""
    more = {
        "listeners": f"PROXIED://127.0.0.1:{port}",
        "advertised.listeners": f"PROXIED://127.0.0.1:{proxy_port}",
        "listener.security.protocol.map": "PROXIED:PLAINTEXT",
    }
    lines = []
    for line in properties.splitlines():
        name = line.partition("=")[0]
        lines.append(f"{line},{more[name]}\n" if name in more else f"{line}\n")
    return "".join(lines)


class KafkaBroker:
    """One broker. `start`, `stop` and `kill` may alternate: the log and the ports stay until `close`.

    `measured`: the JVM compiles as well as it can, which takes seconds of both cores that a test need not pay.
    `proxy_port`: clients that come through a proxy on this port are sent back to it; it forwards to `behind_proxy`.
    """

    def __init__(
        self,
        *,
        heap: str = "512m",
        measured: bool = False,
        properties: Mapping[str, str] | None = None,
        proxy_port: int | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gatemeter-kafka-"))
        self.port = free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._heap = heap
        self._options = [] if measured else ["-XX:TieredStopAtLevel=1"]
        self._extra = dict(properties or {})
        self._proxy_port = proxy_port
        self.behind_proxy = free_port() if proxy_port else 0
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def __enter__(self) -> KafkaBroker:
        try:
            self.format()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def log(self) -> str:
        """What the broker has printed so far."""
        path = self.folder / "broker.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def format(self) -> None:
        """Prepares the empty log folder. Called once, before the first `start`."""
        text = _PROPERTIES.format(port=self.port, controller_port=free_port(), folder=self.folder)
        if self._proxy_port:
            text = _with_proxied_listener(text, self.behind_proxy, self._proxy_port)
        text += "".join(f"{name}={value}\n" for name, value in self._extra.items())
        (self.folder / "server.properties").write_text(text, "utf-8")
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")  # as Kafka's own random-uuid
        arguments = ["format", "--standalone", f"--cluster-id={cluster}", "-c", "server.properties"]
        command = self._java("kafka.tools.StorageTool", *arguments)
        subprocess.run(command, cwd=self.folder, capture_output=True, timeout=60, check=True)

    def _java(self, *arguments: str) -> list[str]:
        options = [
            f"-Xmx{self._heap}",
            "-XX:+UseSerialGC",
            *self._options,
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        ]
        return ["java", *options, "-cp", f"{libraries()}/*", *arguments]

    def start(self) -> None:
        """Starts the broker and returns when a topic can be created."""
        if self._process is not None:
            raise RuntimeError("the broker is running")
        self._output = (self.folder / "broker.log").open("ab")
        self._process = subprocess.Popen(
            self._java("kafka.Kafka", "server.properties"),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1):
                    pass
                self.create_topic("_ready", partitions=1, exist_ok=True)
            except (OSError, KafkaException):
                time.sleep(0.1)
                continue
            return
        log = self.log
        self.kill()
        raise RuntimeError(f"Apache Kafka did not start:\n{log[-4000:]}")

    def stop(self, timeout_seconds: float = 30) -> None:
        """Ends the broker in order (SIGTERM), then by force."""
        self._end(signal.SIGTERM, timeout_seconds)

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self._end(signal.SIGKILL, 10)

    def _end(self, number: signal.Signals, timeout_seconds: float) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            try:
                process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        if self._output is not None:
            self._output.close()
            self._output = None

    def close(self) -> None:
        """Kills the broker and deletes its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def admin(self) -> AdminClient:
        """A confluent-kafka admin client; keep it in a variable until its futures are done."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def create_topic(
        self, topic: str, *, partitions: int = 1, config: Mapping[str, str] | None = None, exist_ok: bool = False
    ) -> None:
        """Creates `topic` with `message.timestamp.type=LogAppendTime` unless `config` says otherwise."""
        settings = {"message.timestamp.type": "LogAppendTime", **(config or {})}
        admin = self.admin()
        new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=settings)
        try:
            admin.create_topics([new], operation_timeout=10, request_timeout=10)[topic].result(15)
        except KafkaException as error:
            if not exist_ok or error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise

    def end_offsets(self, topic: str, partitions: int) -> list[int]:
        """The log end of each partition of `topic`."""
        admin = self.admin()
        wanted: dict[Any, Any] = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(partitions)}
        futures = admin.list_offsets(wanted)
        return [futures[TopicPartition(topic, number)].result(15).offset for number in range(partitions)]

    def records(self, topic: str, partition: int = 0) -> list[Message]:
        """All records of a partition up to its end as it is now."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test", "enable.auto.commit": False})
        try:
            start, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            consumer.assign([TopicPartition(topic, partition, start)])
            return consumer.consume(end - start, timeout=20) if end > start else []
        finally:
            consumer.close()


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaBroker]:
    """A running broker for the whole session. Tests use topics of their own; one that stops it starts it again."""
    with KafkaBroker() as broker:
        yield broker
