"""Attempts wait for the line of their request: the router writes a line when each try ends, the access log at the end.

Of the last try the line may come after that of the request (where the client left), and adds nothing to it. What waits
is bounded in number and by the log's own clock; a try whose request never comes (Envoy was killed) is given up and
counted.
"""

from __future__ import annotations

from typing import Any, Final

from gatemeter.producers.tails.envoy.lines import AttemptLine

MAX_WAITING: Final = 10_000
MAX_AGE_US: Final = 3_600 * 1_000_000


class Waiting:
    """`given_up` counts requests whose attempts were never claimed."""

    def __init__(self) -> None:
        self.given_up = 0
        self._attempts: dict[str, list[AttemptLine]] = {}
        self._late: dict[str, int] = {}
        self._sees_attempts = False
        self._now_us = 0

    def add(self, line: AttemptLine) -> None:
        """An attempt ended."""
        self._sees_attempts = True
        if self._late.pop(line.request_id, None) is not None:
            return
        self._attempts.setdefault(line.request_id, []).append(line)
        self._forget(line.started_us)

    def claim(self, request_id: str, attempts: int, started_us: int) -> dict[int, AttemptLine]:
        """The attempts of a request that ended, by number."""
        found = {line.attempt: line for line in self._attempts.pop(request_id, ()) if line.attempt <= attempts}
        if self._sees_attempts and attempts and attempts not in found:
            self._late[request_id] = started_us
        self._forget(started_us)
        return found

    def _forget(self, now_us: int) -> None:
        self._now_us = max(self._now_us, now_us)
        oldest_us = self._now_us - MAX_AGE_US
        while self._attempts:
            request_id, lines = next(iter(self._attempts.items()))
            if len(self._attempts) <= MAX_WAITING and lines[0].started_us >= oldest_us:
                break
            del self._attempts[request_id]
            self.given_up += 1
        while self._late:
            request_id, started_us = next(iter(self._late.items()))
            if len(self._late) <= MAX_WAITING and started_us >= oldest_us:
                break
            del self._late[request_id]

    @property
    def state(self) -> dict[str, Any]:
        """As JSON."""
        lines = [line for lines in self._attempts.values() for line in lines]
        rows = [
            [line.request_id, line.attempt, line.started_us, line.duration_us, line.code, list(line.flags)]
            for line in lines
        ]
        return {"attempts": rows, "late": dict(self._late), "sees_attempts": self._sees_attempts, "now": self._now_us}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Waiting:
        """Raises `ValueError`."""
        waiting = cls()
        try:
            for request_id, attempt, started_us, duration_us, code, flags in state.get("attempts", ()):
                line = AttemptLine(request_id, attempt, started_us, duration_us, code, tuple(flags))
                waiting._attempts.setdefault(request_id, []).append(line)
            waiting._late = dict(state.get("late", {}))
            waiting._sees_attempts, waiting._now_us = bool(state.get("sees_attempts")), int(state.get("now", 0))
        except (TypeError, ValueError) as error:
            raise ValueError(f"state: must be what a tail of Envoy wrote: {error}") from None
        return waiting
