"""Rate cards: built from the snapshot and a rates file, immutable, known by the hash of their content.

Money rule: `provider_discount_percent` 12 on a list price of 2.50 a million tokens makes a provider price of 2.20;
each price is rounded half-even to 10⁻¹² of the currency once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

from gatemeter.processors.metadata.cards import RateLine, index_lines
from gatemeter.processors.metadata.entries import MetadataError
from gatemeter.processors.metadata.hashing import card_content_hash
from gatemeter.processors.metadata.modalities import gathered
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.reading import MetadataCopy
from gatemeter.processors.metadata.records import entry_of, line_of
from gatemeter.processors.metadata.yamlfiles import FileError
from gatemeter.schemas.codec import Decoded, encode
from gatemeter.schemas.limits import MAX_BATCH_BYTES

HUNDRED_PERCENT_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class CardHead:
    """A card without its lines."""

    card_id: str
    effective_from_us: int
    effective_to_us: int | None
    currency: str
    source: str


def discounted(pico: int, discount_ppm: int) -> int:
    """A price less a discount in millionths, rounded half-even to 10⁻¹²."""
    exact = Decimal(pico * (HUNDRED_PERCENT_PPM - discount_ppm)) / HUNDRED_PERCENT_PPM
    return int(exact.to_integral_value(ROUND_HALF_EVEN))


def raised(pico: int, surcharge_ppm: int) -> int:
    """A price with a surcharge in millionths, rounded half-even to 10⁻¹²."""
    exact = Decimal(pico * (HUNDRED_PERCENT_PPM + surcharge_ppm)) / HUNDRED_PERCENT_PPM
    return int(exact.to_integral_value(ROUND_HALF_EVEN))


def make_card_datum(head: CardHead, lines: Sequence[RateLine]) -> dict[str, Any]:
    """The RateCard record with its content hash; lines are sorted, so the same prices give the same hash.

    Raises `MetadataError` where a price is out of range, lines overlap, or the record is too large for Kafka.
    """
    datum: dict[str, Any] = {
        "card_id": head.card_id,
        "effective_from": head.effective_from_us,
        "effective_to": head.effective_to_us,
        "currency": head.currency,
        "source": head.source,
        "rates": [_line_datum(line) for line in sorted(lines, key=_order)],
    }
    for line in datum["rates"]:
        line_of(line)
    index_lines(head.card_id, "", head.currency, lines)
    datum["content_hash"] = card_content_hash(datum)
    size = len(encode("RateCard", datum))
    if size > MAX_BATCH_BYTES:
        raise MetadataError(
            f"the card has {len(lines)} lines in {size} bytes, must have at most {MAX_BATCH_BYTES} bytes: "
            "name fewer providers, or make several cards (the newest one that has a model counts)"
        )
    return datum


def _order(line: RateLine) -> tuple[Any, ...]:
    return (*line.key, line.effective_from_us, line.input_tokens_above)


def _line_datum(line: RateLine) -> dict[str, Any]:
    return {
        "provider": line.provider,
        "model": line.model,
        "service_tier": line.service_tier or None,
        "workload_class": line.workload_class,
        "region": line.region or None,
        "effective_from": line.effective_from_us,
        "effective_to": line.effective_to_us,
        "input_tokens_above": line.input_tokens_above,
        **gathered(line.list_pico, line.provider_pico),
    }


def save_card(path: Path, datum: Mapping[str, Any]) -> None:
    """Writes the card as JSON, one line a price line; times are microseconds UTC, prices 10⁻¹² currency units."""
    head = {name: value for name, value in datum.items() if name != "rates"}
    rates = ",\n  ".join(json.dumps(line, sort_keys=True, ensure_ascii=False) for line in datum["rates"])
    text = json.dumps(head, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(f'{text[:-2]},\n "rates": [\n  {rates}\n ]\n}}\n', "utf-8")


def load_card(path: Path) -> Draft:
    """A card file as a draft. Raises `FileError` where it is no card or was changed after it was built."""
    try:
        datum = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        build = f"build one from a rates file with: gatemeter rates build {path.name}"
        raise FileError(f"{path.name}: is no JSON: {error}; must be a card file, {build}") from error
    if not isinstance(datum, dict) or "content_hash" not in datum:
        raise FileError(f"{path.name}: must be a card that `gatemeter rates build` wrote")
    computed = card_content_hash(datum)
    if datum["content_hash"] != computed:
        raise FileError(
            f"{path.name}: content_hash must be {computed}, got {datum['content_hash']!r}: "
            "cards are immutable; build a new one with another card_id or effective_from"
        )
    try:
        encode("RateCard", datum)
        entry_of(Decoded("RateCard", datum))
    except (MetadataError, ValueError, TypeError, KeyError) as error:
        raise FileError(f"{path.name}: {error}") from error
    return Draft("RateCard", datum)


def check_immutable(draft: Draft, copy: MetadataCopy) -> None:
    """Raises `MetadataError` where another content is published under the card's id and `effective_from`."""
    for record in copy.accepted:
        if record.name == "RateCard" and Draft(record.name, record.datum).identity == draft.identity:
            published, new = record.datum["content_hash"], draft.datum["content_hash"]
            if published != new:
                raise MetadataError(
                    f"card {draft.datum['card_id']!r} is published with content hash {published}, got {new}: "
                    "cards are immutable; build a new one with another card_id or effective_from"
                )
