"""One table of all hooks: what each says of each case, told by comparing it with what the provider served.

A module of tests has a column (`Column`), and a hook's column has a cell of every case, or a reason why the case is
none of the hook's. The table is `docs/hooks/conformance.md`; `make conformance` writes it anew, the tests hold it to
what they saw.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CASES: Final = {
    "ok": "a whole answer",
    "error": "the provider fails, and nobody tries again",
    "time-out": "the provider says nothing until the time is up",
    "retry": "it fails, and the next try answers",
    "fallback": "it fails, and another model or provider answers",
    "stream": "an answer in parts",
    "cancelled stream": "the caller leaves in the middle",
    "cut stream": "the provider breaks off in the middle",
    "cache hit": "the gateway answers by itself",
    "policy denial": "the gateway refuses, no provider is asked",
    "usage absent": "the provider says no usage",
    "usage zero": "the provider says that nothing was written",
    "two processes": "two processes of one gateway at once",
    "process killed": "SIGKILL after answers, before Kafka has their events",
    "SIGTERM in flight": "SIGTERM while a call is being answered",
}
PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "hooks" / "conformance.md"
WRITE: Final = os.environ.get("GATEMETER_CONFORMANCE") == "write"
_VERDICTS: Final = ("exact", "estimated", "missing")
_STATUS: Final = {"ok": "ok", "error": "error", "timeout": "timeout", "cut": "error", "hangs": "cancelled"}
_UNUSED: Final = ("error", "timeout")
_HEAD: Final = """# Conformance: every hook, every case

Written by `make conformance`, which runs each hook before a provider that keeps a log of its own, and compares. The
tests fail where a cell here is not what they saw.

- **exact**: as many attempts as the provider was asked, each with the provider's status and its tokens; nothing where
  nothing was used.
- **estimated**: the same, with tokens that somebody counted, and marked so. **missing**: the same, with tokens unknown,
  and marked so. Neither is ever told as reported.
- **n/a**: the case cannot come up, or is another hook's.
- **\\***: entries of the product's documented form, posted to the collector by a stand-in; the product itself is in no
  package index. All others are the real product.

"""


@dataclass(frozen=True)
class Served:
    """One try in the provider's log: `ok`, `error`, `timeout`, `cut` or `hangs`; tokens where it stated them."""

    outcome: str
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True)
class Said:
    """One attempt as the meter has it."""

    status: str
    usage_source: str
    input_tokens: int | None
    output_tokens: int | None


def said_of(events: Sequence[Mapping[str, Any]]) -> list[Said]:
    """The attempts of one request from its events, of each the newest revision of its usage."""
    newest: dict[int, Mapping[str, Any]] = {}
    for event in sorted((e for e in events if e["kind"] == "RESPONSE"), key=lambda e: e["usage_revision"] or 0):
        newest[event["attempt"]] = event
    assert sorted(newest) == list(range(1, len(newest) + 1)), "attempts are numbered from 1, without a gap"
    assert {e["attempt"] for e in events if e["kind"] == "REQUEST"} == set(newest), "each has one REQUEST, one RESPONSE"
    names = ("status", "usage_source", "input_text_uncached", "output_text_visible")
    return [Said(*(newest[attempt][name] for name in names)) for attempt in sorted(newest)]


def verdict(served: Sequence[Served], said: Sequence[Said]) -> str:
    """`exact`, `estimated` or `missing`: the worst of the attempts. Fails where the two logs contradict each other."""
    assert len(said) == len(served), (served, said)
    return max((_verdict(*pair) for pair in zip(served, said, strict=True)), key=_VERDICTS.index, default="exact")


def _verdict(served: Served, said: Said) -> str:
    assert said.status == _STATUS[served.outcome], (served, said)
    if served.outcome in _UNUSED:
        assert said.usage_source == "missing" and not said.input_tokens and not said.output_tokens, (served, said)
        return "exact"
    if said.usage_source != "reported":
        return said.usage_source
    assert served.input_tokens is not None, (served, said)
    assert (said.input_tokens, said.output_tokens) == (served.input_tokens, served.output_tokens)
    return "exact"


class Column:
    """What one hook was seen to do, case by case."""

    def __init__(self, hook: str) -> None:
        self.hook = hook
        self.cells: dict[str, str] = {}

    def compare(self, case: str, served: Sequence[Served], said: Sequence[Said], why: str = "") -> None:
        """Fills a cell; of several comparisons the worst counts. `why`: where it is not exact, and only there."""
        seen = verdict(served, said)
        assert (seen == "exact") == (not why), f"{case}: {seen}, which must {'' if why else 'not '}be exact"
        self._fill(case, f"{seen}: {why}" if why else seen)

    def not_applicable(self, case: str, why: str) -> None:
        """Fills a cell of a case that is none of the hook's."""
        self._fill(case, f"n/a: {why}")

    def _fill(self, case: str, cell: str) -> None:
        assert case in CASES, case
        assert "|" not in cell
        before = self.cells.get(case)
        assert before in (None, "exact", cell) or cell == "exact", (case, before, cell)
        if before in (None, "exact"):
            self.cells[case] = cell

    def settle(self) -> None:
        """Every case has its cell, and the page says the same. The last test of a module calls it."""
        assert set(self.cells) == set(CASES), f"without a cell: {sorted(set(CASES) - set(self.cells))}"
        columns = read_page()
        if WRITE:
            write_page({**columns, self.hook: self.cells})
        else:
            assert columns.get(self.hook) == self.cells, f"{PAGE.name} is stale: make conformance"


def read_page() -> dict[str, dict[str, str]]:
    """By hook, the cells of the page."""
    if not PAGE.exists():
        return {}
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {hook: {row[0]: row[place] for row in rows} for place, hook in enumerate(head) if place > 1}


def write_page(columns: Mapping[str, Mapping[str, str]]) -> None:
    """The page with these columns."""
    table = [["case", "what happens", *columns], ["---"] * (2 + len(columns))]
    table += [[case, what, *(cells[case] for cells in columns.values())] for case, what in CASES.items()]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(_HEAD + "".join(f"| {' | '.join(row)} |\n" for row in table), "utf-8")
