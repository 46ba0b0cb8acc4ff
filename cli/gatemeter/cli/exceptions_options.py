"""What the commands of exceptions share: errors as one line, days as options, and how an exception is shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli.one_line import one_line_errors_of
from gatemeter.cli.screen import plain_table
from gatemeter.sinks.exceptions.acts import ActRefused
from gatemeter.sinks.exceptions.endpoint import WebhookError
from gatemeter.sinks.exceptions.thresholds import ThresholdsError

AsJson = Annotated[bool, typer.Option("--json", help="JSON: exact amounts as text.")]
ThresholdsFile = Annotated[
    Path | None,
    typer.Option(
        "--thresholds",
        envvar="GATEMETER_EXCEPTIONS_THRESHOLDS_FILE",
        help="TOML file of thresholds; else the defaults.",
    ),
]
WebhookUrl = Annotated[
    str,
    typer.Option(
        "--webhook",
        envvar="GATEMETER_EXCEPTIONS_WEBHOOK",
        help="Post open exceptions here: https, or http on loopback.",
    ),
]
WebhookHeader = Annotated[
    Path | None,
    typer.Option(
        "--webhook-header-file",
        envvar="GATEMETER_EXCEPTIONS_WEBHOOK_HEADER_FILE",
        help="File with one header for the webhook, Name: value.",
    ),
]

one_line_errors = one_line_errors_of({1: (ActRefused,), 2: (*ch.FAILURES, ThresholdsError, WebhookError)})
NUMBERS: Final = ("requests", "cost")


def day(option: str, text: str) -> date:
    """The UTC day of an option. Raises `OptionError`."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ch.OptionError(f"{option}: must be a day such as 2026-11-24, in UTC, got {text!r}") from None


def who(row: Mapping[str, Any]) -> str:
    """Whom or what an exception is about."""
    names = ("tenant_id", "app_id", "workload_id", "credential_fingerprint", "provider", "model")
    return " ".join(str(row[name]) for name in names if row[name])


def table_of(rows: list[dict[str, Any]]) -> Table:
    """A row an exception, the id last."""
    table = plain_table("kind", "severity", "state", "about", "owner", "seen", *NUMBERS, "id", right=NUMBERS)
    for row in rows:
        cost = "" if row["cost"] is None else f"{row['cost']:f} {row['currency']}"
        texts = (row["kind"].replace("_", " "), row["severity"], row["state"], who(row), row["owner"], row["seen"])
        table.add_row(*(escape(text) for text in texts), f"{row['requests']:,}", cost, row["exception_id"])
    return table
