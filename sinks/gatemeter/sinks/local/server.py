"""The process of the embedded ClickHouse: starts engine and front, says `ready URL`, deletes its data when it ends.

python -m gatemeter.sinks.local.server --port 0 --password-file FILE
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from aiohttp import web

from gatemeter.sinks.local.engine import Engine
from gatemeter.sinks.local.front import Credentials, Front

_EPILOG = """\
The server listens on 127.0.0.1 only and answers one user, with a password, by X-ClickHouse-User and X-ClickHouse-Key
headers, basic authentication, or user= and password= in the URL. It prints `ready http://127.0.0.1:PORT` when it can
take queries; before that `data FOLDER`, and without --password-file `password PASSWORD`, made for this run.

It understands what clickhouse-connect and curl send: a query in the URL or the body, INSERT … FORMAT with data (Native,
Arrow, ArrowStream, JSONEachRow, CSV and every other format of the engine), chunked bodies, Content-Encoding lz4, zstd,
gzip and deflate, param_x parameters, settings in the URL, default_format, database. Sessions are tolerated, not kept.
Answers are not compressed; native block compression (compress=1) and external tables are refused.

Example:
  python -m gatemeter.sinks.local.server --port 8123
  curl 'http://127.0.0.1:8123/?query=SELECT+1' -H 'X-ClickHouse-User: gatemeter' -H 'X-ClickHouse-Key: PASSWORD'
"""


def _size(text: str) -> int:
    value = int(text)
    if not 16 <= value <= 1_048_576:
        raise argparse.ArgumentTypeError(f"must be 16 to 1048576 MiB, got {value}")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65_535:
        raise argparse.ArgumentTypeError(f"must be 0 (any free port) to 65535, got {value}")
    return value


def _threads(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 64:
        raise argparse.ArgumentTypeError(f"must be 1 to 64, got {value}")
    return value


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gatemeter.sinks.local.server",
        description="An embedded ClickHouse (chDB) behind ClickHouse's HTTP interface; it forgets when it stops.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=_port, default=8123, help="port on 127.0.0.1; 0: any free one (default 8123)")
    parser.add_argument("--user", default="gatemeter", help="the one user (default gatemeter)")
    parser.add_argument("--password-file", type=Path, help="file with the password; -: standard input")
    parser.add_argument("--data-in", type=Path, help="where to make the data folder (default: the system's /tmp)")
    parser.add_argument("--threads", type=_threads, default=8, help="statements at a time (default 8)")
    parser.add_argument("--memory-mib", type=_size, default=2048, help="memory of a statement (default 2048)")
    parser.add_argument("--result-mib", type=_size, default=512, help="size of a result (default 512)")
    parser.add_argument("--die-with-parent", action="store_true", help="stop when the starting process is gone")
    return parser.parse_args(argv)


def _password(options: argparse.Namespace) -> str:
    if options.password_file is None:
        password = secrets.token_urlsafe(24)
        print(f"password {password}", flush=True)
        return password
    from_stdin = str(options.password_file) == "-"
    password = (sys.stdin.readline() if from_stdin else options.password_file.read_text()).strip()
    if len(password) < 8:
        raise SystemExit(f"--password-file {options.password_file}: a password must have 8 characters or more")
    return str(password)


def _stop_event() -> asyncio.Event:
    """Set by SIGTERM or SIGINT. Made before anything is started, so that no signal finds nobody listening."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _until_told(stop: asyncio.Event, parent: int | None) -> None:
    """Wait for `stop`, or until the parent process is another one (the first has died)."""
    while not stop.is_set() and (parent is None or os.getppid() == parent):
        try:
            await asyncio.wait_for(stop.wait(), timeout=0.5)
        except TimeoutError:
            continue


async def _serve(options: argparse.Namespace, parent: int | None, folder: Path) -> None:
    stop = _stop_event()
    spool = folder / "spool"
    spool.mkdir()
    engine = Engine(
        folder / "data",
        threads=options.threads,
        memory_bytes=options.memory_mib << 20,
        result_bytes=options.result_mib << 20,
    )
    front = Front(engine, Credentials(options.user, _password(options)), spool)
    runner = web.AppRunner(
        front.application(),
        access_log=None,
        auto_decompress=False,
        max_line_size=1 << 20,  # parameters travel in the URL
        shutdown_timeout=5.0,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", options.port)
        try:
            await site.start()
        except OSError as error:
            raise SystemExit(f"--port {options.port}: cannot listen on 127.0.0.1: {error.strerror}") from error
        print(f"ready http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await _until_told(stop, parent)
    finally:
        await runner.cleanup()
        engine.close()


def main(argv: list[str] | None = None) -> None:
    """Run until told to stop. The data folder (mode 0700) is deleted on every end but SIGKILL of this process."""
    options = _arguments(argv)
    parent = os.getppid() if options.die_with_parent else None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the loop has its own handler
    folder = Path(tempfile.mkdtemp(prefix="gatemeter-clickhouse-", dir=options.data_in))
    print(f"data {folder}", flush=True)
    try:
        asyncio.run(_serve(options, parent, folder))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
