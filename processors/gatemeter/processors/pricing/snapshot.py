"""Public prices from the pinned genai-prices snapshot as lines of a rate card; what cannot be said exactly is left out.

Source: the data inside the package genai-prices (never its online update). Tiers: "a request of 200 000 input tokens
pays the base line; from 200 001 on, *all* its tokens pay the line above 200 000" (its code compares with `>`).
See `docs/pricing.md` for units, variants and model ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Any, Final

from genai_prices.data import providers as BUNDLED
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    TieredPrices,
)

from gatemeter.processors.metadata.cards import ANY_CLASS, RateLine

PROVIDERS: Final[dict[str, Provider]] = {provider.id: provider for provider in BUNDLED}
SOURCE: Final = f"genai-prices {version('genai-prices')}"

PICO: Final = 10**12
_PER_MTOK: Final = 10**6
_PRICE_KEYS: Final[dict[str, tuple[tuple[str, ...], int]]] = {
    # bucket or fee: price keys of genai-prices, the most specific first, and how many units of ours one price is for
    "input_text_uncached": (("input_text_mtok", "input_mtok"), _PER_MTOK),
    "input_text_cache_read": (("cache_text_read_mtok", "cache_read_mtok"), _PER_MTOK),
    "input_text_cache_write_5m": (
        ("cache_text_write_5m_mtok", "cache_write_5m_mtok", "cache_text_write_mtok", "cache_write_mtok"),
        _PER_MTOK,
    ),
    "input_text_cache_write_1h": (("cache_text_write_1h_mtok", "cache_write_1h_mtok"), _PER_MTOK),
    # a price of all tokens of a direction or class holds for every modality without one of its own
    "input_audio_uncached": (("input_audio_mtok", "input_mtok"), _PER_MTOK),
    "input_audio_cache_read": (("cache_audio_read_mtok", "cache_read_mtok"), _PER_MTOK),
    "input_image_uncached": (("input_image_mtok", "input_mtok"), _PER_MTOK),
    "input_image_cache_read": (("cache_image_read_mtok", "cache_read_mtok"), _PER_MTOK),
    "output_text_visible": (("output_text_mtok", "output_mtok"), _PER_MTOK),
    "output_text_reasoning": (
        ("output_text_reasoning_mtok", "output_reasoning_mtok", "output_text_mtok", "output_mtok"),
        _PER_MTOK,
    ),
    "output_audio_visible": (("output_audio_mtok", "output_mtok"), _PER_MTOK),
    "output_image_visible": (("output_image_mtok", "output_mtok"), _PER_MTOK),
    "media_ms": (("audio_hours", "input_audio_hours"), 3_600_000),
    "searches": (("web_searches_kcount",), 1_000),
    "request": (("requests_kcount",), 1_000),
}
_KNOWN_KEYS: Final = frozenset(key for keys, _ in _PRICE_KEYS.values() for key in keys)
_MIRRORED_KEYS: Final = frozenset({"input_audio_hours", "output_audio_hours"})


@dataclass(frozen=True, slots=True, order=True)
class LeftOut:
    """A price of the snapshot that the card does not have, and why: usage of it stays unpriced."""

    provider: str
    model: str
    why: str


@dataclass(frozen=True, slots=True)
class ModelId:
    """One more exact id of a model at a provider; `like` is the id by which genai-prices knows it."""

    provider: str
    model: str
    like: str


@dataclass
class Snapshot:
    """Lines of a card (list = provider price) and what was left out."""

    lines: list[RateLine] = field(default_factory=list)
    left_out: set[LeftOut] = field(default_factory=set)


class UnknownModel(ValueError):
    """A provider or model that genai-prices does not know."""


def snapshot_lines(
    providers: Sequence[str], from_us: int, to_us: int | None, extra: Sequence[ModelId] = ()
) -> Snapshot:
    """Lines of all models of `providers`, cut to [from_us, to_us). Raises `UnknownModel`."""
    snapshot = Snapshot()
    for name in providers:
        if name not in PROVIDERS:
            raise UnknownModel(f"provider {name!r} is not in {SOURCE}; known are {', '.join(sorted(PROVIDERS))}")
        ids = {**model_ids(PROVIDERS[name]), **_extra_ids(PROVIDERS[name], extra)}
        for model_id, (model, own) in sorted(ids.items()):
            for line in _Lines(name, model_id, model, own, snapshot.left_out).between(from_us, to_us):
                snapshot.lines.append(line)
    return snapshot


def _extra_ids(provider: Provider, extra: Sequence[ModelId]) -> dict[str, tuple[ModelInfo, bool]]:
    found: dict[str, tuple[ModelInfo, bool]] = {}
    for entry in extra:
        if entry.provider == provider.id:
            model = provider.find_model(entry.like, all_providers=list(BUNDLED))
            if model is None:
                raise UnknownModel(f"{SOURCE} knows no model {entry.like!r} of provider {provider.id!r}")
            found[entry.model] = (model, any(model is known for known in provider.models))
    return found


def model_ids(provider: Provider) -> dict[str, tuple[ModelInfo, bool]]:
    """Exact ids that genai-prices resolves to a model of `provider`; True where it is the provider's own.

    The snapshot matches ids by clauses. `equals` gives exact ids; of the others the canonical id and the prefix of
    `starts_with` are taken, each only if genai-prices resolves it to that very model. A provider that resells others'
    models (azure) has theirs as well.
    """
    found: dict[str, tuple[ModelInfo, bool]] = {}
    for model in provider.models:
        for candidate in (model.id, *_names(model.match)):
            if provider.find_model(candidate) is model:
                found[candidate] = (model, True)
    for reseller in provider.fallback_model_providers or ():
        for candidate, (model, own) in model_ids(PROVIDERS[reseller]).items():
            if own and provider.find_model(candidate, all_providers=list(BUNDLED)) is model:
                found.setdefault(candidate, (model, False))
    return found


def _names(clause: Any) -> Iterator[str]:
    if isinstance(clause, ClauseEquals):
        yield clause.equals
    elif isinstance(clause, ClauseStartsWith) and clause.starts_with[-1].isalnum():
        yield clause.starts_with
    elif isinstance(clause, ClauseOr):
        for inner in clause.or_:
            yield from _names(inner)


@dataclass
class _Lines:
    """The lines of one model id."""

    provider: str
    model_id: str
    model: ModelInfo
    own: bool
    left_out: set[LeftOut]

    def between(self, from_us: int, to_us: int | None) -> Iterator[RateLine]:
        """Lines for the standard price and each variant, cut to [from_us, to_us)."""
        yield from self._spans("", ANY_CLASS, (), from_us, to_us)
        # genai-prices ignores the variants of models that a provider only resells
        for when, variants in self._variants() if self.own else ():
            place = _place_of(when)
            if place is None:
                if any(_prices_of(variant.prices) for variant in variants):
                    self._leave_out(f"variant {dict(when)}: no service tier or workload class of ours")
                continue
            yield from self._spans(*place, variants, from_us, to_us)

    def _variants(self) -> list[tuple[tuple[tuple[str, str], ...], tuple[PriceVariant, ...]]]:
        grouped: dict[tuple[tuple[str, str], ...], list[PriceVariant]] = {}
        for variant in self.model.price_variants or ():
            grouped.setdefault(tuple(sorted(variant.when.items())), []).append(variant)
        return [(when, tuple(variants)) for when, variants in grouped.items()]

    def _spans(
        self,
        service_tier: str,
        workload_class: str,
        variants: tuple[PriceVariant, ...],
        from_us: int,
        to_us: int | None,
    ) -> Iterator[RateLine]:
        instants = sorted(
            {from_us, *(at for at in self._starts(variants) if from_us < at and (not to_us or at < to_us))}
        )
        spans: list[tuple[int, int | None, Any]] = []
        for position, start in enumerate(instants):
            end = instants[position + 1] if position + 1 < len(instants) else to_us
            tiers = self._tiers_at(start, variants)
            if spans and spans[-1][2] == tiers:
                spans[-1] = (spans[-1][0], end, tiers)
            else:
                spans.append((start, end, tiers))
        for start, end, tiers in spans:
            for above, pico in tiers or ():
                yield RateLine(
                    self.provider,
                    self.model_id,
                    pico,
                    pico,
                    service_tier,
                    workload_class,
                    above,
                    effective_from_us=start,
                    effective_to_us=end,
                )

    def _conditions(self) -> list[ConditionalPrice]:
        prices = self.model.prices
        return [ConditionalPrice(prices=prices)] if isinstance(prices, ModelPrice) else prices

    def _starts(self, variants: tuple[PriceVariant, ...]) -> Iterator[int]:
        constraints = [*(entry.constraint for entry in self._conditions()), *(entry.constraint for entry in variants)]
        for constraint in constraints:
            if isinstance(constraint, StartDateConstraint):
                yield _midnight_us(constraint)

    def _tiers_at(self, at_us: int, variants: tuple[PriceVariant, ...]) -> list[tuple[int, dict[str, int]]] | None:
        """Prices by threshold at an instant; None: no price."""
        standard = self._standard_at(at_us)
        if standard is None:
            return None
        if not variants:
            return self._tiers(_prices_of(standard))
        overlay: dict[str, Decimal | TieredPrices] = {}
        for variant in variants:
            if _active(variant.constraint, at_us):
                for key, price in _prices_of(variant.prices).items():
                    overlay.setdefault(key, price)
        return self._tiers({**_prices_of(standard), **overlay}) if overlay else None

    def _standard_at(self, at_us: int) -> ModelPrice | None:
        for condition in reversed(self._conditions()):
            if condition.constraint is None or _active(condition.constraint, at_us):
                return condition.prices
            if not isinstance(condition.constraint, StartDateConstraint):
                self._leave_out("its price depends on the time of day")
                return None
        self._leave_out("it has no price before its first start date")
        return None

    def _tiers(self, prices: Mapping[str, Decimal | TieredPrices]) -> list[tuple[int, dict[str, int]]]:
        for key in sorted(prices.keys() - _KNOWN_KEYS - _MIRRORED_KEYS):
            self._leave_out(f"{key}: no bucket or meter of ours")
        starts = {tier.start for price in prices.values() if isinstance(price, TieredPrices) for tier in price.tiers}
        return [(above, self._pico(prices, above)) for above in sorted({0, *starts})]

    def _pico(self, prices: Mapping[str, Decimal | TieredPrices], above: int) -> dict[str, int]:
        pico: dict[str, int] = {}
        for name, (keys, per) in _PRICE_KEYS.items():
            key = next((key for key in keys if key in prices), None)
            if key is None:
                continue
            exact = _price_above(prices[key], above) * PICO / per
            if exact == int(exact):
                pico[name] = int(exact)
            else:
                self._leave_out(f"{key}: {_price_above(prices[key], above)} is no whole number of 10^-12 a unit")
        return pico

    def _leave_out(self, why: str) -> None:
        self.left_out.add(LeftOut(self.provider, self.model_id, why))


def _price_above(price: Decimal | TieredPrices, above: int) -> Decimal:
    """The price of requests just above a threshold: that of the highest tier which starts there or below."""
    if not isinstance(price, TieredPrices):
        return price
    chosen = price.base
    for tier in price.tiers:
        if tier.start <= above and above:
            chosen = tier.price
    return chosen


def _prices_of(price: ModelPrice) -> dict[str, Decimal | TieredPrices]:
    return {key: value for key, value in vars(price).items() if value is not None and not key.startswith("_")}


def _place_of(when: tuple[tuple[str, str], ...]) -> tuple[str, str] | None:
    """Service tier and workload class of a variant; None where we have no such dimension."""
    match when:
        case (("processing", "batch"),):
            return "", "batch"
        case (("service_tier" | "speed", tier),) if tier not in ("default", "standard", "auto"):
            return tier, ANY_CLASS
    return None


def _midnight_us(constraint: StartDateConstraint) -> int:
    day = constraint.start_date
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000


def _active(constraint: Any, at_us: int) -> bool:
    """Whether a start date has come; a time of day never counts as active, its price cannot be said by date."""
    return constraint is None or (isinstance(constraint, StartDateConstraint) and _midnight_us(constraint) <= at_us)
