"""Hooks in real proxies: two of the same product in front of one stub provider, the second one metered."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.hooks.provider import ASKED
from benchmarks.hooks.sides import Comparison, Side, cpu_of, over_http

from gatemeter.schemas import codec
from support.envoy import Envoy, headers
from support.kafka import KafkaBroker, free_port
from support.litellm_proxy import CALLER_KEY, LiteLLMProxy
from support.processes import Process, Processes, eventually

_ROOT: Final = Path(__file__).resolve().parents[2]
_PARTITIONS: Final = 12
_SETTLED_S: Final = 0.6
"""The emitter's linger, or Envoy's time between two flushes, and some more."""
_TAIL: Final = ["-m", "gatemeter.cli.main", "tail", "envoy"]


@dataclass(frozen=True)
class Way:
    """Where a meter publishes, and with which key."""

    broker: KafkaBroker
    folder: Path
    topic: str
    kid: str = "bench-1"

    @classmethod
    def of(cls, broker: KafkaBroker, folder: Path, topic: str) -> Way:
        """Makes the topic and the key's file."""
        broker.create_topic(topic, partitions=_PARTITIONS)
        way = cls(broker, folder, topic)
        path = folder / "secrets.json"
        path.touch(0o600)
        path.write_text(json.dumps({way.kid: "73" * 32}), "utf-8")
        return way

    def answered(self) -> int:
        """How many requests have both a REQUEST and a RESPONSE in the topic."""
        said: dict[str, set[str]] = {"REQUEST": set(), "RESPONSE": set(), "POLICY": set()}
        for number in range(_PARTITIONS):
            for record in self.broker.records(self.topic, number):
                for event in codec.decode(record.value() or b"").datum["events"]:
                    said[event["kind"]].add(event["request_id"])
        return len(said["REQUEST"] & said["RESPONSE"])


@contextmanager
def behind_envoy(broker: KafkaBroker) -> Iterator[Comparison]:
    """Without the filter that reads usage and without logs; then as in `examples/envoy`, and its tail at the end.

    Raises `RuntimeError` where the tail does not publish every call.
    """
    with TemporaryDirectory(prefix="gatemeter-envoy-") as name, Processes(Path(name)) as processes:
        folder, bare_folder = Path(name), Path(name) / "bare"
        bare_folder.mkdir()
        sent = {"authorization": headers()["authorization"]}
        with (
            _provider(processes) as port,
            Envoy(bare_folder, port, timeout="60s", listener=_unmetered) as bare,
            Envoy(folder, port, timeout="60s") as metered,
        ):
            assert bare.process is not None and metered.process is not None
            two = _side(bare.port, bare.process, sent), _side(metered.port, metered.process, sent)
            compared = Comparison(*two)
            yield compared
            time.sleep(_SETTLED_S)
        _read_by_tail(metered.log, Way.of(broker, folder, "envoy"), compared)


def _unmetered(listener: dict[str, Any]) -> None:
    """Takes out what the hook adds: the Lua filter, and both logs."""
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["access_log"]
    manager["http_filters"] = [entry for entry in manager["http_filters"] if entry["name"] != "envoy.filters.http.lua"]
    (router,) = (entry for entry in manager["http_filters"] if entry["name"] == "envoy.filters.http.router")
    del router["typed_config"]["upstream_log"]


def _read_by_tail(log: Path, way: Way, compared: Comparison) -> None:
    """The tail's CPU: of a run over the whole log, less that of a run that finds nothing new."""
    calls = log.read_bytes().count(b'"log":"request"')
    used, said = _tailed(log, way)
    start, _ = _tailed(log, way)
    if calls != compared.metered.calls or said["events"] != 2 * calls:
        raise RuntimeError(f"the tail did not publish {compared.metered.calls} calls: {said}")
    compared.more["tail_cpu_us"] = round((used - start) * 1e6 / calls, 1)


def _tailed(log: Path, way: Way) -> tuple[float, dict[str, Any]]:
    """Seconds of CPU of one run of the tail to the log's end, and its report."""
    environment = {
        "GATEMETER_BOOTSTRAP": way.broker.bootstrap,
        "GATEMETER_GATEWAY_ID": "envoy",
        "GATEMETER_GATEWAY_KIND": "api_gateway",
        "GATEMETER_KID": way.kid,
        "GATEMETER_SECRETS_FILE": str(way.folder / "secrets.json"),
        "GATEMETER_TOPIC": way.topic,
    }
    command = [sys.executable, *_TAIL, str(log), "--state", str(way.folder / "tail"), "--once", "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(
        [*command, "--timeout", "60"], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode != 0:
        raise RuntimeError(f"the tail ended with {ended.returncode}: {ended.stderr[-2000:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, json.loads(ended.stdout.splitlines()[-1])


@contextmanager
def behind_litellm(broker: KafkaBroker) -> Iterator[Comparison]:
    """Two proxies with one configuration but for the callback.

    Raises `RuntimeError` where the metered one did not publish a REQUEST and a RESPONSE of every call.
    """
    with TemporaryDirectory(prefix="gatemeter-litellm-") as name, Processes(Path(name)) as processes:
        folder = Path(name)
        way = Way.of(broker, folder, "litellm")
        sent = {"authorization": f"Bearer {CALLER_KEY}"}
        with _provider(processes) as port:
            url = f"http://127.0.0.1:{port}"
            bare = LiteLLMProxy(processes, url, way, folder / "bare", is_metered=False)
            metered = LiteLLMProxy(processes, url, way, folder / "metered", broker.bootstrap)
            bare.wait_until_ready()
            metered.wait_until_ready()
            two = _side(bare.port, bare.process, sent), _side(metered.port, metered.process, sent)
            compared = Comparison(*two)
            yield compared
            metered.stop()
        answered = way.answered()
    if answered != compared.metered.calls:
        raise RuntimeError(f"the proxy published {answered} of {compared.metered.calls} calls")


def _side(port: int, process: Process, sent: Mapping[str, str]) -> Side:
    def cpu_ns() -> int:
        time.sleep(_SETTLED_S)
        return cpu_of(process.pid)

    bodies = {stream: body.replace(b'"gpt-4o"', b'"ok"') for stream, body in ASKED.items()}
    return Side(over_http(port, sent, bodies), cpu_ns)


@contextmanager
def _provider(processes: Processes) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.hooks.served", str(port)]
    served = processes.start(command, {"PYTHONPATH": str(_ROOT)})

    def answers() -> bool:
        if not served.running:
            raise RuntimeError(f"the stub provider ended: {served.log[-1000:]}")
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", port)) == 0

    eventually(answers, "the stub provider answers")
    yield port
    served.kill()
