"""The frame of `gatemeter audit`: checks run in order, each gives findings, and one verdict comes out.

A check looks at the database (and at Kafka, where it was given) and says what it found, a `Finding` a scope. Workers
may be writing while it looks, so a finding is wrong only where every look found it. What was not asked for is said as
a note, and what could not be looked at is neither clean nor wrong: `UNCHECKED`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from gatemeter.sinks.port import SinkError

LOOKS: Final = 5
PAUSE: Final = timedelta(seconds=1)
LISTED: Final = 100
"""How many things of one kind an evidence lists; their number is always given."""


class Result(StrEnum):
    """What a finding is."""

    OK = "ok"
    NOTE = "note"  # worth a look, and no error
    WRONG = "wrong"
    UNCHECKED = "unchecked"  # it was asked for, and could not be looked at


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the audit. `scope`: a partition, an epoch, an hour, a seal. `evidence`: plain data for JSON."""

    check: str
    scope: str
    result: Result
    what: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The finding as plain data."""
        return {
            "check": self.check,
            "scope": self.scope,
            "result": str(self.result),
            "what": self.what,
            "evidence": dict(self.evidence),
        }


class CannotCheck(Exception):
    """A check could not be made; the text says what is in its way."""


@dataclass(frozen=True, slots=True)
class Check:
    """`look` gives the findings as they are now. `live`: workers that write may make it look wrong for a moment."""

    name: str
    look: Callable[[], Iterable[Finding]]
    live: bool = True


def ok(check: str, scope: str, what: str, **evidence: Any) -> Finding:
    """A finding that is as it must be."""
    return Finding(check, scope, Result.OK, what, evidence)


def note(check: str, scope: str, what: str, **evidence: Any) -> Finding:
    """A finding worth a look."""
    return Finding(check, scope, Result.NOTE, what, evidence)


def wrong(check: str, scope: str, what: str, **evidence: Any) -> Finding:
    """A finding that must not be."""
    return Finding(check, scope, Result.WRONG, what, evidence)


def not_asked(name: str, needs: str) -> Check:
    """A check that was not asked for: it says which option it needs."""
    return Check(name, lambda: [note(name, "", f"not checked: needs {needs}")], live=False)


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found, in the order of its checks."""

    findings: tuple[Finding, ...]

    def of(self, result: Result) -> list[Finding]:
        """Findings of one kind."""
        return [finding for finding in self.findings if finding.result is result]

    @property
    def clean(self) -> bool:
        """Nothing is wrong, and everything that was asked for was looked at."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """0 clean, 1 something is wrong, 2 something could not be checked."""
        if self.of(Result.WRONG):
            return 1
        return 2 if self.of(Result.UNCHECKED) else 0

    @property
    def first_problem(self) -> str:
        """The first thing that is wrong, else the first that could not be checked, in one line; '' where clean."""
        for result in (Result.WRONG, Result.UNCHECKED):
            for finding in self.of(result):
                place = f"{finding.check}: {finding.scope}" if finding.scope else finding.check
                return f"{place}: {finding.what}"
        return ""


def run_checks(checks: Sequence[Check], *, looks: int = LOOKS, pause: timedelta = PAUSE) -> Audit:
    """Runs the checks in order. A check that fails is a finding (`UNCHECKED`), and the others go on."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += _settled(check, looks if check.live else 1, pause)
        except (CannotCheck, SinkError) as error:
            findings.append(Finding(check.name, "", Result.UNCHECKED, f"could not be checked: {error}"))
    return Audit(tuple(findings))


def _settled(check: Check, looks: int, pause: timedelta) -> list[Finding]:
    """The last look's findings; what is wrong in it counts only where each look before found it wrong too."""
    findings = list(check.look())
    doubtful = _wrong_scopes(findings)
    for _ in range(looks - 1):
        if not doubtful:
            break
        time.sleep(pause.total_seconds())
        findings = list(check.look())
        doubtful &= _wrong_scopes(findings)
    return [found for found in findings if found.result is not Result.WRONG or found.scope in doubtful]


def _wrong_scopes(findings: Iterable[Finding]) -> set[str]:
    return {found.scope for found in findings if found.result is Result.WRONG}


def listed(things: Sequence[Any]) -> list[Any]:
    """At most `LISTED` of them, for an evidence."""
    return list(things[:LISTED])
