"""The rates file: which public prices a card takes, and the contract prices, models and fees on top of them.

Prices are in currency units per million tokens; fees per unit (request, image, search, tool call) or per hour of media.
A later override replaces the provider price of an earlier one; list prices stay public unless given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from gatemeter.processors.metadata.cards import ANY_CLASS, ANY_REGION, RateKey, RateLine
from gatemeter.processors.metadata.entries import MetadataError
from gatemeter.processors.metadata.records import REQUEST_FEE, WORKLOAD_CLASSES, check_currency, check_price
from gatemeter.processors.metadata.yamlfiles import Entry, by_position, load_yaml, to_number
from gatemeter.processors.pricing.cards import CardHead, discounted, make_card_datum, raised
from gatemeter.processors.pricing.snapshot import SOURCE, LeftOut, ModelId, UnknownModel, snapshot_lines
from gatemeter.schemas.limits import MAX_TOKENS_PER_EVENT
from gatemeter.schemas.tables import BUCKETS, METERS

DEFAULT_PROVIDERS: Final = (
    "openai",
    "anthropic",
    "google",
    "mistral",
    "cohere",
    "aws",
    "azure",
    "groq",
    "deepseek",
    "x-ai",
)
PICO: Final = 10**12
PPM_PER_PERCENT: Final = 10_000
_UNITS: Final[dict[str, int]] = {
    **dict.fromkeys(BUCKETS, 1_000_000),
    **dict.fromkeys((*METERS, REQUEST_FEE), 1),
    "media_ms": 3_600_000,
}
_FEE_NAMES: Final[dict[str, str]] = {"media_hours": "media_ms"}


@dataclass(frozen=True)
class BuiltCard:
    """A card's record and the prices of the snapshot that it does not have."""

    datum: dict[str, Any]
    left_out: list[LeftOut]


def build_card(path: Path) -> BuiltCard:
    """The card of a rates file. Raises `FileError`, naming file, entry, field and range."""
    top = load_yaml(path)
    head, providers, extra = _head(top)
    try:
        snapshot = snapshot_lines(providers, head.effective_from_us, head.effective_to_us, extra)
    except UnknownModel as error:
        raise top.error(str(error)) from error
    lines = snapshot.lines
    if lines and head.currency != "USD":
        raise top.error(
            f"currency must be USD, the currency of {SOURCE}, or providers must be []; got {head.currency!r}"
        )
    for entry in top.entries("models", by_position("model")):
        lines = _with_model(lines, entry, head)
    for entry in top.entries("overrides", by_position("override")):
        lines = _overridden(lines, entry)
    for entry in top.entries("fees", by_position("fee")):
        lines = _with_fee(lines, entry)
    lines = _with_surcharges(lines, top)
    top.done()
    try:
        return BuiltCard(make_card_datum(head, lines), sorted(snapshot.left_out))
    except MetadataError as error:
        raise top.error(str(error)) from error


def _head(top: Entry) -> tuple[CardHead, list[str], list[ModelId]]:
    start, end = top.instant_us("effective_from"), top.instant_us("effective_to", None)
    if end is not None and end <= start:
        raise top.error("effective_to must be after effective_from")
    currency = top.text("currency", "USD")
    try:
        check_currency(currency)
    except MetadataError as error:
        raise top.error(str(error)) from error
    providers = top.texts("providers") if top.has("providers") else list(DEFAULT_PROVIDERS)
    extra = []
    for entry in top.entries("model_ids", by_position("model id")):
        model = entry.text("model")
        extra.append(ModelId(entry.text("provider"), model, entry.text("like", model)))
        entry.done()
        if extra[-1].provider not in providers:
            raise entry.error(f"provider must be one of the file's providers, got {extra[-1].provider!r}")
    source = f"{SOURCE} ({', '.join(providers)}) and {top.where}"
    return CardHead(top.text("card_id"), start, end, currency, source), providers, extra


def _matching(
    lines: list[RateLine], entry: Entry, *, narrow: bool, region: str | None = None
) -> tuple[list[RateLine], list[RateLine]]:
    """Lines that an entry names, and the others.

    What an entry does not name matches all; with `narrow` only the standard tier, class any, any region and the base
    line. `region`: instead of the entry's own field.
    """
    provider, model = entry.text("provider"), entry.text("model", None)
    tier = entry.text("service_tier", "standard" if narrow else None)
    workload = entry.choice("workload_class", WORKLOAD_CLASSES, ANY_CLASS if narrow else None)
    above = entry.integer("input_tokens_above", 0, MAX_TOKENS_PER_EVENT, 0 if narrow else -1)
    place = entry.text("region", "any" if narrow else None) if region is None else region

    def named(line: RateLine) -> bool:
        return (
            line.provider == provider
            and model in (None, line.model)
            and tier in (None, line.service_tier or "standard")
            and workload in (None, line.workload_class)
            and above in (-1, line.input_tokens_above)
            and place in (None, line.region or "any")
        )

    chosen = [line for line in lines if named(line)]
    if not chosen:
        of_model = f" and model {model!r}" if model else ""
        raise entry.error(f"no price of the card has provider {provider!r}{of_model} in this tier and class")
    return chosen, [line for line in lines if not named(line)]


def _overridden(lines: list[RateLine], entry: Entry) -> list[RateLine]:
    chosen, others = _matching(lines, entry, narrow=entry.has("prices"))
    percent = entry.scaled("provider_discount_percent", PPM_PER_PERCENT, 0, 100, -1)
    prices = _prices(entry, "prices")
    entry.done()
    if (percent < 0) == (prices is None):
        raise entry.error("exactly one of provider_discount_percent and prices must be given")
    return [*others, *(_with_provider_prices(line, percent, prices) for line in chosen)]


def _with_provider_prices(line: RateLine, discount_ppm: int, prices: Mapping[str, int] | None) -> RateLine:
    if prices is None:
        provider = {name: discounted(pico, discount_ppm) for name, pico in line.list_pico.items()}
        return replace(line, provider_pico=provider)
    # a bucket that has no public price gets the contract price as its list price too: both sides have the same keys
    return replace(line, list_pico={**prices, **line.list_pico}, provider_pico={**line.provider_pico, **prices})


def _with_model(lines: list[RateLine], entry: Entry, head: CardHead) -> list[RateLine]:
    start = entry.instant_us("effective_from", head.effective_from_us)
    end = entry.instant_us("effective_to", head.effective_to_us)
    if end is not None and end <= start:
        raise entry.error("effective_to must be after effective_from")
    tier, region = entry.text("service_tier", "standard"), entry.text("region", "any")
    listed = _prices(entry, "prices") or {}
    contract = _prices(entry, "provider_prices")
    line = RateLine(
        entry.text("provider"),
        entry.text("model"),
        listed,
        listed if contract is None else contract,
        "" if tier == "standard" else tier,
        entry.choice("workload_class", WORKLOAD_CLASSES, ANY_CLASS),
        entry.integer("input_tokens_above", 0, MAX_TOKENS_PER_EVENT, 0),
        ANY_REGION if region == "any" else region,
        effective_from_us=start,
        effective_to_us=end,
    )
    entry.done()
    if not listed:
        raise entry.error("prices is missing; it must map bucket or fee names to prices")
    if set(line.list_pico) != set(line.provider_pico):
        raise entry.error("provider_prices must have the same names as prices")
    return [*lines, line]


def _with_fee(lines: list[RateLine], entry: Entry) -> list[RateLine]:
    chosen, others = _matching(lines, entry, narrow=False)
    prices = _prices(entry, "prices")
    entry.done()
    if not prices or any(name in BUCKETS for name in prices):
        raise entry.error(f"prices must map fee names ({', '.join((REQUEST_FEE, *METERS, *_FEE_NAMES))}) to prices")
    return [
        *others,
        *(
            replace(line, list_pico={**line.list_pico, **prices}, provider_pico={**line.provider_pico, **prices})
            for line in chosen
        ),
    ]


def _with_surcharges(lines: list[RateLine], top: Entry) -> list[RateLine]:
    """A line for the region beside each line for any region that an entry matches, its token prices raised.

    A later entry replaces what an earlier one made; lines of models for the region stay as the file says them.
    """
    own = {(line.key, line.input_tokens_above) for line in lines if line.region != ANY_REGION}
    made: dict[tuple[RateKey, int, int], RateLine] = {}
    for entry in top.entries("surcharges", by_position("surcharge")):
        region, ppm = entry.text("region"), entry.scaled("percent", PPM_PER_PERCENT, 0, 1_000)
        chosen, _ = _matching(lines, entry, narrow=False, region="any")
        entry.done()
        if region == "any":
            raise entry.error("region must be the region that costs more, got 'any'")
        for line in chosen:
            raised_line = replace(
                line,
                list_pico=_raised(line.list_pico, ppm),
                provider_pico=_raised(line.provider_pico, ppm),
                region=region,
            )
            if (raised_line.key, line.input_tokens_above) not in own:
                made[raised_line.key, line.input_tokens_above, line.effective_from_us] = raised_line
    return [*lines, *made.values()]


def _raised(prices: Mapping[str, int], ppm: int) -> dict[str, int]:
    """Token prices rise, fees stay."""
    return {name: raised(pico, ppm) if name in BUCKETS else pico for name, pico in prices.items()}


def _prices(entry: Entry, field: str) -> dict[str, int] | None:
    """Prices of a mapping as pico by bucket or fee name; None where the field is not there."""
    listed = entry.mapping(field)
    if listed is None:
        return None
    prices = {}
    for given, value in listed.items():
        name = _FEE_NAMES.get(given, given)
        if name not in _UNITS or given == "media_ms":
            known = (*BUCKETS, REQUEST_FEE, *(meter for meter in METERS if meter != "media_ms"), *_FEE_NAMES)
            raise entry.error(f"{field}: {given!r} is no bucket or fee; known are {', '.join(known)}")
        number = to_number(value)
        if number is None:
            raise entry.error(f"{field}: {given} must be a price, got {value!r}")
        prices[name] = _pico(entry, field, given, name, number)
    return prices


def shown_price(name: str, pico: int) -> tuple[str, str]:
    """Name and price as a rates file says them: (input_text_uncached, 2500000) is 2.5 a million tokens."""
    given = next((given for given, meant in _FEE_NAMES.items() if meant == name), name)
    text = f"{Decimal(pico * _UNITS[name]).scaleb(-12):f}"
    return given, text.rstrip("0").rstrip(".") if "." in text else text


def _pico(entry: Entry, field: str, given: str, name: str, number: Decimal) -> int:
    exact = number * PICO / _UNITS[name]
    if exact != int(exact):
        raise entry.error(f"{field}: {given} must be a whole number of 10^-12 a unit, got {number}")
    try:
        return check_price(name, int(exact))
    except MetadataError as error:
        raise entry.error(f"{field}: {given}: {error}") from error
