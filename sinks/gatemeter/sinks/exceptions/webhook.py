"""Tells a webhook about open exceptions, each at least once: the table of notices says which it has taken.

A POST an exception, JSON as `gatemeter exceptions list --json` prints it, with the header `Idempotency-Key:
exception_id`; any 2xx takes it. Redirects are not followed. What is not taken is told again by the next look.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import urllib3
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.exceptions.endpoint import Webhook
from gatemeter.sinks.exceptions.listing import COLUMNS, plain
from gatemeter.sinks.rows import insert_rows, query_rows

RECENT: Final = timedelta(days=3)
"""Exceptions that were last seen earlier are not told any more: a new webhook does not get years of them."""
MOST: Final = 500
"""So many are told in one go, the rest in the next."""
PAUSES_S: Final = (0.2, 1.0)
"""Between tries of one notice; after the last one the webhook is left alone until the next look."""
TIMEOUT: Final = urllib3.Timeout(connect=5, read=10)

_PENDING: Final = f"""
SELECT {", ".join(COLUMNS)} FROM exception_list
WHERE state = 'open' AND last_seen_at >= {{since:DateTime64(6, 'UTC')}}
    AND exception_id NOT IN (SELECT exception_id FROM exception_notices WHERE webhook = {{webhook:String}})
ORDER BY first_seen_at, exception_id LIMIT {MOST}
"""
_NOTICE: Final = ("webhook", "exception_id", "sent_at", "http_status")


@dataclass(frozen=True, slots=True)
class Told:
    """How many the webhook took now, and why it took no more; '' where it took all."""

    taken: int
    problem: str


def tell(client: Client, webhook: Webhook, now: datetime, *, sleep: Callable[[float], None] = time.sleep) -> Told:
    """Posts what the webhook has not taken yet, oldest first, and stops at the first that it does not take.

    Raises `SinkUnavailable`, `SinkRefused`; a webhook that fails raises nothing.
    """
    asked = {"webhook": webhook.digest, "since": now - RECENT}
    pending = query_rows(client, "read what the webhook was not told", _PENDING, asked)
    pool = urllib3.PoolManager(timeout=TIMEOUT, retries=False)
    taken = 0
    try:
        for row in pending:
            status, problem = _post(pool, webhook, row, sleep)
            if problem:
                return Told(taken, problem)
            _note(client, webhook, str(row["exception_id"]), status)
            taken += 1
    finally:
        pool.clear()
    return Told(taken, "")


def _post(
    pool: urllib3.PoolManager, webhook: Webhook, row: Mapping[str, Any], sleep: Callable[[float], None]
) -> tuple[int, str]:
    """The status, and the problem of the last try; '' where it was taken."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(row["exception_id"])}
    if webhook.header is not None:
        headers[webhook.header[0]] = webhook.header[1]
    body = json.dumps(plain(row)).encode()
    problem = ""
    for pause in (*PAUSES_S, None):
        try:
            answer = pool.request("POST", webhook.url, body=body, headers=headers, redirect=False)
            if 200 <= answer.status < 300:
                return answer.status, ""
            problem = f"the webhook at {webhook.place} answered {answer.status}"
        except (urllib3.exceptions.HTTPError, OSError) as error:
            problem = f"the webhook at {webhook.place} could not be reached: {type(error).__name__}"
        if pause is not None:
            sleep(pause)
    return 0, problem


def _note(client: Client, webhook: Webhook, exception_id: str, status: int) -> None:
    row = (webhook.digest, exception_id, datetime.now(UTC), status)
    insert_rows(client, "exception_notices", _NOTICE, [row], "note what the webhook was told")
