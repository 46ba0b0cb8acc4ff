"""A real headless Chromium that looks at a page: what it logs, asks for, cuts off, and draws."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
A4_WIDTH = 695
"""Width of A4 within the margins of the page, in CSS pixels: 184 mm."""

PATIENCE_SECONDS = 60.0
"""A browser that says nothing for so long is an error, not a wait."""

# Text that is cut or stands over the edge, and labels of charts that run into their bars.
_MEASURE = """
(() => {
  const name = e => `${e.tagName} ${(e.textContent || '').trim().slice(0, 60)}`;
  const all = [...document.querySelectorAll('main, main *')].filter(e => e.getClientRects().length);
  const blocks = all.filter(e => !e.closest('svg') && getComputedStyle(e).display !== 'inline');
  const edge = document.documentElement.clientWidth;
  const labels = [...document.querySelectorAll('svg g')].filter(g => g.querySelector('.label'));
  return {
    cut: blocks.filter(e => !['TR', 'THEAD', 'TBODY'].includes(e.tagName) && e.scrollWidth > e.clientWidth + 1)
      .map(name),
    outside: all.filter(e => {
      const r = e.getBoundingClientRect(); return r.right > edge + 1 || r.left < -1; }).map(name),
    over: [...document.querySelectorAll('svg.chart text')].filter(t => {
      const r = t.getBoundingClientRect(), s = t.closest('svg').getBoundingClientRect();
      return r.right > s.right + 1 || r.left < s.left - 1 || r.bottom > s.bottom + 2; }).map(name),
    hidden: labels.filter(g => g.querySelector('.label').getBoundingClientRect().right >
      g.querySelector('rect').getBoundingClientRect().left).map(name),
    broken: [...document.querySelectorAll('td')].filter(e => {
      const range = document.createRange(); range.selectNodeContents(e);
      return !e.children.length && /^[\\w.]{1,32}$/.test(e.textContent.trim()) && range.getClientRects().length > 1;
    }).map(name),
    cells: [...document.querySelectorAll('[data-key]')].map(e => ({
      currency: e.closest('[data-currency]')?.dataset.currency ?? '', key: e.dataset.key,
      exact: e.dataset.exact ?? null, text: e.textContent.trim() })),
    scripts: document.querySelectorAll('script').length,
    charts: [...document.querySelectorAll('svg[role=img]')].map(s => [s.querySelector('title').textContent,
      s.querySelector('desc').textContent]),
    text: document.body.innerText,
  };
})()
"""


@dataclass
class Seen:
    """A page at one width: texts of elements that are cut, outside the page, over their chart's edge, or hidden; cells
    of one short word (a currency, a cause, the id of a request) that is on two lines."""

    cut: list[str]
    outside: list[str]
    over: list[str]
    hidden: list[str]
    broken: list[str]
    cells: list[dict[str, Any]]
    scripts: int
    charts: list[list[str]]
    text: str


@dataclass
class Look:
    """A page on a screen of 1280 pixels and on paper; what it logged and asked for beside itself."""

    screen: Seen
    paper: Seen
    logged: list[str] = field(default_factory=list)
    asked_for: list[str] = field(default_factory=list)
    pdf: bytes = b""


def executable() -> str:
    """The browser; `make browser` installs one."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, "no Chromium: run make browser"
    return found


def look_at(page: Path) -> Look:
    """Looks at a file."""
    return asyncio.run(_look_at(page))


def picture_of(page: Path, *, height: int = 0, paper: bool = False) -> bytes:
    """A PNG of a page at 1280 pixels (or as on paper), its first `height` pixels or all of it."""
    return asyncio.run(_picture_of(page, height, paper))


async def _look_at(page: Path) -> Look:
    async with _tab() as tab:
        await tab.size(1280)
        await tab.open(page)
        screen = Seen(**await tab.evaluate(_MEASURE))
        await tab.call("Emulation.setEmulatedMedia", media="print")
        await tab.size(A4_WIDTH)
        paper = Seen(**await tab.evaluate(_MEASURE))
        pdf = (await tab.call("Page.printToPDF", preferCSSPageSize=True))["data"]
        return Look(screen, paper, tab.logged, tab.asked_for, base64.b64decode(pdf))


async def _picture_of(page: Path, height: int, paper: bool) -> bytes:
    async with _tab() as tab:
        if paper:
            await tab.call("Emulation.setEmulatedMedia", media="print")
        width = A4_WIDTH if paper else 1280
        await tab.size(width)
        await tab.open(page)
        whole = await tab.evaluate("document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height or whole, whole), "scale": 1}
        shot = await tab.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])


class _Tab:
    """One page of the browser, by its DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.session = ""
        self.logged: list[str] = []
        self.asked_for: list[str] = []
        self._happened: list[dict[str, Any]] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        said = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(said | ({"sessionId": self.session} if self.session else {}))
        while True:
            message = await self._next()
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                result: dict[str, Any] = message["result"]
                return result

    async def open(self, page: Path) -> None:
        await self.call("Page.navigate", url=page.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._happened):
            await self._next()

    async def size(self, width: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )

    async def evaluate(self, expression: str) -> Any:
        done = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"]["value"]

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = await asyncio.wait_for(self._socket.receive_json(), PATIENCE_SECONDS)
        if "method" in message:
            self._happened.append(message)
            self._note(message["method"], message["params"])
        return message

    def _note(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled":
            self.logged.append(str(parameters["args"]))
        elif method == "Runtime.exceptionThrown":
            self.logged.append(str(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.logged.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent" and parameters["type"] != "Document":
            self.asked_for.append(parameters["request"]["url"])


@asynccontextmanager
async def _tab() -> AsyncIterator[_Tab]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0"]
        process = await asyncio.create_subprocess_exec(
            executable(),
            *flags,
            f"--user-data-dir={folder}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            address = await _address(process)
            async with aiohttp.ClientSession() as http, http.ws_connect(address, max_msg_size=0) as socket:
                tab = _Tab(socket)
                target = (await tab.call("Target.createTarget", url="about:blank"))["targetId"]
                attached = await tab.call("Target.attachToTarget", targetId=target, flatten=True)
                tab.session = attached["sessionId"]
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await tab.call(f"{domain}.enable")
                yield tab
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # it has children
            await process.communicate()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    said = b""
    while line := await process.stderr.readline():
        said += line
        if match := re.search(rb"DevTools listening on (ws://\S+)", line):
            return match[1].decode()
    raise AssertionError(f"the browser ended: {said.decode(errors='replace')}")
