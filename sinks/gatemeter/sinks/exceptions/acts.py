"""What operators say about an exception: rows that are only added to `exception_acts`; the last one counts."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.rows import insert_rows, query_rows

ACTS: Final = ("acknowledge", "resolve", "reopen", "assign")
LONGEST: Final = 1_000

_EXISTS: Final = "SELECT count() FROM exception_list WHERE exception_id = {id:String}"
_COLUMNS: Final = ("exception_id", "at", "act", "who", "reason", "owner")


class ActRefused(ValueError):
    """The exception is not there, or a text is not accepted; the text names which and what is."""


def act_on(
    client: Client, exception_id: str, act: str, *, who: str, at: datetime, reason: str = "", owner: str = ""
) -> None:
    """Adds an act. `assign` needs an `owner`, the others a `reason`, all of them `who`.

    Raises `ActRefused`, `SinkUnavailable`, `SinkRefused`.
    """
    if act not in ACTS:
        raise ActRefused(f"act: must be one of {', '.join(ACTS)}, got {act!r}")
    _check("by", who)
    _check(*(("owner", owner) if act == "assign" else ("reason", reason)))
    doing = f"{act} exception {exception_id}"
    (known,) = query_rows(client, doing, _EXISTS, {"id": exception_id})
    if not any(known.values()):
        raise ActRefused(f"there is no exception {exception_id!r}: gatemeter exceptions list shows their ids")
    insert_rows(client, "exception_acts", _COLUMNS, [(exception_id, at, act, who, reason, owner)], doing)


def _check(name: str, text: str) -> None:
    if not 1 <= len(text) <= LONGEST or not text.isprintable() or not text.strip():
        raise ActRefused(f"{name}: must be 1 to {LONGEST} printable characters, got {text[:100]!r}")
