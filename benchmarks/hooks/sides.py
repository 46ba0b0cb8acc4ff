"""The two sides of a comparison: the same call where nothing meters it, and where a hook does."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.hooks.provider import PATH


@dataclass(frozen=True)
class Took:
    """Nanoseconds to the first and the last byte of the body, as the client has them, and to the end of the call."""

    first_ns: int
    last_ns: int
    whole_ns: int


_IDLE_S: Final = 1.0
"""After so long without a call the connection is made anew: a proxy may be about to close it."""

Call = Callable[[bool], Took]
"""Makes one call; True for a streamed one."""


class Side:
    """`cpu_ns`: CPU so far of the process that has the hook, when nothing is left to do of the calls before."""

    def __init__(self, call: Call, cpu_ns: Callable[[], int]) -> None:
        self.calls = 0
        self.cpu_ns = cpu_ns
        self._call = call

    def call(self, stream: bool) -> Took:
        """Makes one call, and counts it."""
        self.calls += 1
        return self._call(stream)


@dataclass(frozen=True)
class Comparison:
    """Without the hook, and with it. `more`: further figures, known when it is over."""

    bare: Side
    metered: Side
    more: dict[str, float] = field(default_factory=dict)


def over_http(port: int, headers: Mapping[str, str], bodies: Mapping[bool, bytes]) -> Call:
    """Calls over one connection to a proxy on loopback, which must answer each of them."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    sent = {"content-type": "application/json", **headers}
    used_s = 0.0

    def one(stream: bool) -> Took:
        nonlocal used_s
        if time.monotonic() - used_s > _IDLE_S:
            connection.close()
            connection.connect()
        first = 0
        began = time.perf_counter_ns()
        connection.request("POST", PATH, bodies[stream], sent)
        answer = connection.getresponse()
        while answer.read1(65_536):
            first = first or time.perf_counter_ns()
        answer.read()  # only this frees the connection
        ended = time.perf_counter_ns() - began
        used_s = time.monotonic()
        if answer.status != 200:
            raise RuntimeError(f"a call was answered with {answer.status}")
        return Took(first - began, ended, ended)

    return one


def cpu_of(pid: int) -> int:
    """CPU of all threads of a process, in nanoseconds (its clock of ticks is too coarse)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text("ascii").split()[0])
        except FileNotFoundError:  # it ended meanwhile
            continue
    return total
