"""What the commands of the quarantine share: the options that choose, the connection, a refusal as JSON."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Annotated, Any, Concatenate, Final, ParamSpec, TypeVar

import typer

from gatemeter.cli import clickhouse_options, operator_options
from gatemeter.cli.clickhouse_options import OptionError
from gatemeter.cli.one_line import one_line_errors_of
from gatemeter.cli.operator_options import moment
from gatemeter.cli.quarantine_ways import way_out
from gatemeter.sinks.reports.quarantine import MAX_LIMIT, Filters, Refusal, utc

P = ParamSpec("P")
T = TypeVar("T")

Topic = Annotated[str, typer.Option("--topic", help="Events topic; all if not given.")]
Partition = Annotated[int, typer.Option("--partition", show_default="all", help="One partition.")]
Offset = Annotated[int, typer.Option("--offset", show_default="all", help="One offset.")]
FromOffset = Annotated[int, typer.Option("--from-offset", help="First offset.")]
ToOffset = Annotated[int, typer.Option("--to-offset", show_default="the last", help="Last offset.")]
GatewayName = Annotated[str, typer.Option("--gateway", help="Gateway that the record names, authentic or not.")]
WhyRefused = Annotated[str, typer.Option("--refused-for", help="Reason of refusal, for example unknown_key.")]
Since = Annotated[str, typer.Option("--since", help="Recorded at this UTC time or later.")]
Until = Annotated[str, typer.Option("--until", help="Recorded before this UTC time.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="At most so many rows.")]
All = Annotated[bool, typer.Option("--all", help="Every open row; needed where no other option chooses.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
Why = Annotated[str, typer.Option("--reason", help="Why; it is kept with the record and in the operator log.")]

one_line_errors: Final = one_line_errors_of({1: operator_options.FAILURES, 2: clickhouse_options.FAILURES})


def filters_of(
    topic: Topic = "",
    partition: Partition = -1,
    offset: Offset = -1,
    from_offset: FromOffset = 0,
    to_offset: ToOffset = -1,
    gateway: GatewayName = "",
    refused_for: WhyRefused = "",
    since: Since = "",
    until: Until = "",
) -> Filters:
    """Which rows the options choose. Raises `OptionError`, `MetadataError`."""
    if offset >= 0 and (from_offset, to_offset) != (0, -1):
        raise OptionError("--offset must not be given beside --from-offset or --to-offset")
    first, last = (offset, offset) if offset >= 0 else (from_offset, to_offset)
    return Filters(
        topic=topic,
        partition=partition,
        first_offset=first,
        last_offset=None if last < 0 else last,
        gateway=gateway,
        reason=refused_for,
        since_us=moment("--since", since) if since else 0,
        until_us=moment("--until", until) if until else None,
    )


def choosing(command: Callable[Concatenate[Filters, P], T]) -> Callable[..., T]:
    """Gives a command the options of `filters_of`; what they choose is its first argument."""
    options = inspect.signature(filters_of, eval_str=True).parameters
    _, *own = inspect.signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def chosen(**given: Any) -> T:
        filters = filters_of(**{name: given.pop(name) for name in options})
        return command(filters, **given)  # type: ignore[call-arg]  # what is left are the command's own

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*options.values(), *own)]
    chosen.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    chosen.__annotations__ = {each.name: each.annotation for each in parameters}
    return chosen


def check_chosen(filters: Filters, *, everything: bool) -> None:
    """An act needs rows that were chosen. Raises `OptionError`."""
    if replace(filters, state="") == Filters() and not everything:
        raise OptionError("choose records by an option such as --offset or --gateway, or give --all")


def refusal_json(refusal: Refusal) -> dict[str, Any]:
    """A refusal as plain data."""
    return {
        "topic": refusal.topic,
        "partition": refusal.partition,
        "offset": refusal.offset,
        "event_index": refusal.event_index,
        "state": refusal.state,
        "reason": refusal.reason,
        "detail": refusal.detail,
        "gateway_id": refusal.gateway_id,
        "claims": refusal.claims._asdict(),
        "record_digest": refusal.record_digest,
        "recorded_at": utc(refusal.recorded_at_us),
        "to_do": way_out(refusal.reason) if refusal.state == "open" else "",
        "again_offset": refusal.again_offset,
        "discard_reason": refusal.discard_reason,
        "discarded_by": refusal.discarded_by,
        "sequences_given_up": refusal.sequences_given_up,
    }
