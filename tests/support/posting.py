"""The conformance of sources of the collector: a posting gateway, a collector of its own process, and every case."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2

from support.collector import TOKENS, settings_file
from support.conformance import Served
from support.counting_provider import CountingProvider
from support.kafka import free_port
from support.processes import Process, Processes, eventually
from support.spools import spooled

CHAT = "/v1/chat/completions"
GATEWAY = Path(__file__).with_name("posting_gateway.py")
SECRET = "sk-planted-secret-0123456789"


class Posting:
    """Gateways of one form before one provider, and the collector behind them, whose Kafka is nowhere."""

    def __init__(self, form: str, processes: Processes, provider: CountingProvider, folder: Path) -> None:
        self.form, self._processes, self._provider, self._folder = form, processes, provider, folder
        self.port = free_port()
        self.spool = folder / "spool"
        self._settings = settings_file(folder, listen=f"127.0.0.1:{self.port}")
        self.collector = self.start_collector()
        self.url = self.start_gateway()

    def start_collector(self) -> Process:
        """On the port of the one before, which another process may have for a moment as its own end of a connection."""
        where = [str(self._settings), "--timeout", "0"]
        started: list[Process] = []

        def listens() -> bool:
            if not started or not started[-1].running:
                assert not started or "address already in use" in started[-1].log, started[-1].log[-3000:]
                command = [sys.executable, "-m", "gatemeter.cli.main", "collector", "serve", *where]
                started.append(self._processes.start(command, {}))
            return "listening on" in started[-1].log

        eventually(listens, "the collector listens")
        return started[-1]

    def start_gateway(self) -> str:
        """One more process; its address."""
        port = free_port()
        where = [f"http://127.0.0.1:{self.port}", TOKENS[self.form], f"http://127.0.0.1:{self._provider.port}"]
        self._processes.start([sys.executable, str(GATEWAY), str(port), self.form, *where], {})
        url = f"http://127.0.0.1:{port}"

        def listens() -> bool:
            with contextlib.suppress(httpx2.TransportError):
                return httpx2.get(url).status_code == 404
            return False

        eventually(listens, "the gateway listens")
        return url

    def call(self, model: str, *, stream: bool = False, text: str = "planted prompt", url: str = "") -> int | None:
        """One call, read to its end; the status, None where the answer broke off."""
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
        body |= {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        headers = {"authorization": f"Bearer {SECRET}"}
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.post((url or self.url) + CHAT, json=body, headers=headers, timeout=30).status_code
        return None

    def leave(self, model: str) -> None:
        """One call whose caller leaves in the middle."""
        body = {"model": model, "stream": True, "messages": []}
        with httpx2.Client() as client, client.stream("POST", self.url + CHAT, json=body) as response:
            next(response.iter_bytes())

    def events(self, model: str, count: int = 1) -> list[dict[str, Any]]:
        """What is in the spool of requests for that model, when there are so many that are over."""

        def found() -> list[dict[str, Any]]:
            events = list(spooled(self.spool, (SECRET, "planted")))
            ids = {event["request_id"] for event in events if event["model"] == model}
            of_model = [event for event in events if event["request_id"] in ids]
            is_over = {event["request_id"] for event in of_model if event["kind"] in ("RESPONSE", "POLICY")}
            return of_model if len(is_over) >= count else []

        eventually(found, f"{model} is metered")
        return found()

    def served(self, *models: str) -> list[Served]:
        """The provider's log of these models, in order."""
        tried = [line for line in self._provider.log if line.model in models]
        return [Served(line.outcome, line.input_tokens, line.output_tokens) for line in tried]

    def kill_collector(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Ends it; a new one listens in its place."""
        self.collector.send(number)
        self.collector.wait()
        self.collector = self.start_collector()


def in_flight(posting: Posting, model: str) -> list[int | None]:
    """A call that is being answered when the collector gets SIGTERM; another collector comes later."""
    answers: list[int | None] = []
    flying = threading.Thread(target=lambda: answers.append(posting.call(model)))
    flying.start()
    eventually(lambda: posting.served(model), "it is in flight")
    posting.kill_collector(signal.SIGTERM)
    flying.join()
    return answers


def both(posting: Posting, models: Sequence[str]) -> None:
    """Calls through two gateways at once."""
    second = posting.start_gateway()
    threads = [
        threading.Thread(target=posting.call, args=(model,), kwargs={"url": second if number % 2 else ""})
        for number, model in enumerate(models)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
