"""A ClickHouse whose disk can be filled up and freed again.

Where mounting is permitted, it is an engine of its own on a small tmpfs in a mount namespace that ends with it;
elsewhere a proxy before the session's engine says what ClickHouse says then (code 243, NOT_ENOUGH_SPACE).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from gatemeter.sinks.clickhouse import ClickHouseSettings
from gatemeter.sinks.local import launcher
from gatemeter.sinks.migrations import migrate
from support.clickhouse import ClickHouse
from support.kafka import die_with_parent
from support.proxy import NO_SPACE, HttpProxy

PASSWORD = "tiny-disk-password"
MEBIBYTES = 192


class Disk(Protocol):
    """What a test does with it."""

    settings: ClickHouseSettings

    def fill(self) -> None:
        """Nothing more can be written."""

    def free(self) -> None:
        """There is room again."""


@dataclass
class RealDisk:
    """A tmpfs of `MEBIBYTES`, seen through the server's own root."""

    settings: ClickHouseSettings
    folder: Path

    def fill(self) -> None:
        with (self.folder / "ballast").open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(1 << 16))
            except OSError:
                return  # full

    def free(self) -> None:
        (self.folder / "ballast").unlink()


@dataclass
class SaidDisk:
    """A proxy that says so."""

    settings: ClickHouseSettings
    proxy: HttpProxy

    def fill(self) -> None:
        self.proxy.fault = NO_SPACE

    def free(self) -> None:
        self.proxy.heal()


def mounts_are_permitted() -> bool:
    """Whether a mount namespace of one's own may mount a tmpfs."""
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def tiny_disk(clickhouse: ClickHouse, folder: Path) -> Iterator[Disk]:
    """A migrated database on it."""
    if not mounts_are_permitted():
        settings = clickhouse.migrated()
        with HttpProxy(settings.url) as proxy:
            yield SaidDisk(replace(settings, url=proxy.url), proxy)
        clickhouse.drop(settings)
        return
    mounted = folder / "disk"
    mounted.mkdir()
    script = f'mount -t tmpfs -o size={MEBIBYTES}m tmpfs "$0" && exec "$@"'
    server = [sys.executable, "-m", "gatemeter.sinks.local.server", "--port", "0", "--password-file", "-"]
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, str(mounted), *server, "--data-in", str(mounted)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
    )
    try:
        said = launcher._wait_until_ready(process, PASSWORD, timedelta(seconds=120))
        settings = ClickHouseSettings(said["ready"], "gatemeter", PASSWORD, "tiny")
        migrate(settings)
        yield RealDisk(settings, Path(f"/proc/{process.pid}/root{mounted}"))
    finally:
        launcher._end(process, timedelta(seconds=15))
