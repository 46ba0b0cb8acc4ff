"""`gatemeter rates diff`: what two rate cards say differently, line by line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from gatemeter.cli import operator_options as ops
from gatemeter.cli.operator_options import console
from gatemeter.cli.rate_options import (
    DEFAULT_PUBLIC_KEYS,
    AsJson,
    PublicKeys,
    one_line_errors,
    read_published,
)
from gatemeter.cli.screen import plain_table
from gatemeter.processors.metadata.cards import ANY_CLASS
from gatemeter.processors.metadata.reading import MetadataCopy
from gatemeter.processors.metadata.yamlfiles import FileError
from gatemeter.processors.pricing.carddiff import CardDiff, LineChange, PriceChange, diff_cards
from gatemeter.processors.pricing.cards import load_card
from gatemeter.processors.pricing.ratesfile import shown_price
from gatemeter.schemas.partitions import METADATA_TOPIC

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CARD: Final = "Card file, or ID or ID@YYYY-MM-DD of a published card."


@one_line_errors
def rates_diff(
    before: Annotated[str, typer.Argument(metavar="A", help=_CARD)],
    after: Annotated[str, typer.Argument(metavar="B", help=_CARD)],
    provider: Annotated[str, typer.Option("--provider", help="One provider; all if not given.")] = "",
    model: Annotated[str, typer.Option("--model", help="One model; all if not given.")] = "",
    as_json: AsJson = False,
    bootstrap: ops.Bootstrap = ops.DEFAULT_BOOTSTRAP,
    operator_keys: PublicKeys = DEFAULT_PUBLIC_KEYS,
    kafka_config: ops.KafkaConfig = None,
    metadata_topic: ops.MetadataTopic = METADATA_TOPIC,
) -> None:
    """Show what two rate cards say differently. Exit code 0: equal, 1: they differ, 2: cannot be compared.

    Cards are compared while both hold; where they never do, the earlier one's last prices with the later one's first.

    Example: gatemeter rates diff card-2026-11.json card-2026-12.json --provider openai
    """
    copy = None
    for argument, name in (("A", before), ("B", after)):
        if not Path(name).is_file() and not operator_keys.is_file():
            raise FileError(f"{argument} is no file, and --operator-keys is needed for a published card: got {name!r}")
    if not (Path(before).is_file() and Path(after).is_file()):
        copy = read_published(bootstrap, operator_keys, kafka_config, metadata_topic)
    then, now = _card("A", before, copy), _card("B", after, copy)
    _check_filter("provider", provider, then, now)
    _check_filter("model", model, then, now)
    found = diff_cards(then, now, provider=provider, model=model)
    if as_json:
        typer.echo(json.dumps(diff_json(then, now, found)))
    else:
        _show(then, now, found)
    if not found.equal:
        raise typer.Exit(1)


def _card(argument: str, name: str, copy: MetadataCopy | None) -> Mapping[str, Any]:
    """A card file, else a published card by id, with a date where there are several. Raises `FileError`."""
    if copy is None or Path(name).is_file():
        return load_card(Path(name)).datum
    by_start = {
        (record.datum["card_id"], record.datum["effective_from"]): record.datum
        for record in copy.accepted
        if record.name == "RateCard"
    }
    found = [card for (card_id, start), card in by_start.items() if name in (card_id, f"{card_id}@{day(start)}")]
    if len(found) != 1:
        known = ", ".join(f"{card_id}@{day(start)}" for card_id, start in sorted(by_start)) or "none"
        what = "is published with several dates" if found else "is no file and no published card"
        raise FileError(f"{argument} {what}: got {name!r}; published are {known}")
    return found[0]


def _check_filter(name: str, chosen: str, *cards: Mapping[str, Any]) -> None:
    """A misspelt filter must not look like two equal cards. Raises `FileError`."""
    known = {line[name] for card in cards for line in card["rates"]}
    if chosen and chosen not in known:
        near = ", ".join(get_close_matches(chosen, sorted(known))) or f"none of {len(known):,} is like it"
        raise FileError(f"--{name}: no line of either card has {name} {chosen!r}; near it: {near}")


def day(at_us: int) -> str:
    """2026-11-01 for a midnight UTC, else the whole time."""
    at = _EPOCH + timedelta(microseconds=at_us)
    return f"{at:%Y-%m-%d}" if at_us % 86_400_000_000 == 0 else at.isoformat().replace("+00:00", "Z")


def diff_json(then: Mapping[str, Any], now: Mapping[str, Any], found: CardDiff) -> dict[str, Any]:
    """The difference as plain data; prices as text in the units of the rates file, changes in per cent as text."""
    return {
        "a": _head_json(then),
        "b": _head_json(now),
        "equal": found.equal,
        "card": [
            {"field": name, "before": _field(name, was), "after": _field(name, is_)} for name, was, is_ in found.head
        ],
        "lines": [_line_json(change) for change in found.lines],
    }


def _head_json(card: Mapping[str, Any]) -> dict[str, Any]:
    return {"card_id": card["card_id"], "content_hash": card["content_hash"], "currency": card["currency"]}


def _field(name: str, value: Any) -> Any:
    return day(value) if name.startswith("effective") and value is not None else value


def _line_json(change: LineChange) -> dict[str, Any]:
    (provider, model, tier, workload, region), above = change.key
    return {
        "change": change.how,
        "provider": provider,
        "model": model,
        "service_tier": tier or None,
        "workload_class": workload,
        "region": region or None,
        "input_tokens_above": above,
        "effective_from": None if change.from_us is None else day(change.from_us),
        "effective_to": None if change.to_us is None else day(change.to_us),
        "prices": [_price_json(price) for price in change.prices],
    }


def _price_json(price: PriceChange) -> dict[str, Any]:
    list_percent, provider_percent = price.percent
    return {
        "price": shown_price(price.name, 0)[0],
        "list_before": _side(price, price.before, 0),
        "list_after": _side(price, price.after, 0),
        "list_percent": None if list_percent is None else f"{list_percent:f}",
        "provider_before": _side(price, price.before, 1),
        "provider_after": _side(price, price.after, 1),
        "provider_percent": None if provider_percent is None else f"{provider_percent:f}",
    }


def _side(price: PriceChange, prices: tuple[int, int] | None, side: int) -> str | None:
    return None if prices is None else shown_price(price.name, prices[side])[1]


def _show(then: Mapping[str, Any], now: Mapping[str, Any], found: CardDiff) -> None:
    for label, card in (("A", then), ("B", now)):
        end = "" if card["effective_to"] is None else f" to {day(card['effective_to'])}"
        start = day(card["effective_from"])
        console.print(f"{label}: {card['card_id']} from {start}{end}, {card['content_hash'][:16]}…", markup=False)
    for name, was, is_ in found.head:
        console.print(f"{name}: {_field(name, was) or 'open'} → {_field(name, is_) or 'open'}", markup=False)
    if found.lines:
        console.print(_table(found))
    counts = {how: sum(change.how == how for change in found.lines) for how in ("added", "removed", "changed")}
    said = ", ".join(f"{count:,} lines {how}" for how, count in counts.items() if count)
    console.print(said or ("no line differs" if found.head else "equal"))


def _table(found: CardDiff) -> Table:
    title = "Prices a million tokens, a unit, or an hour of media"
    table = plain_table(title=title)
    table.add_column("", no_wrap=True)
    table.add_column("model", overflow="fold")
    table.add_column("price", no_wrap=True)
    for column in ("list", "contract"):
        table.add_column(column, justify="right", overflow="fold")
    for change in found.lines:
        where = (change.how, escape(_where(change)))
        for price in change.prices:
            table.add_row(*where, shown_price(price.name, 0)[0], _moved(price, 0), _moved(price, 1))
            where = ("", "")
    return table


def _where(change: LineChange) -> str:
    """The line for people: provider and model, and what else of it is not the ordinary."""
    (provider, model, tier, workload, region), above = change.key
    named = [
        f"{provider} {model}",
        tier and f"tier {tier}",
        "" if workload == ANY_CLASS else workload,
        region and f"region {region}",
        f"above {above:,}" if above else "",
        _dates(change),
    ]
    return ", ".join(text for text in named if text)


def _dates(change: LineChange) -> str:
    ends = [None if at_us is None else day(at_us) for at_us in (change.from_us, change.to_us)]
    return " ".join(f"{word} {at}" for word, at in zip(("from", "to"), ends, strict=True) if at)


def _moved(price: PriceChange, side: int) -> str:
    """2.5 → 2.2 (-12 %); the price alone where it did not move."""
    before, after = (_side(price, prices, side) for prices in (price.before, price.after))
    percent = price.percent[side]
    if before == after:
        return before or ""
    return f"{before or 'none'} → {after or 'none'}" + (f" ({_percent(percent)} %)" if percent else "")


def _percent(moved: Decimal) -> str:
    """+10, -2.5."""
    return f"{moved.normalize():+f}"
