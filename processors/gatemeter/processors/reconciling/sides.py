"""What both sides say at one grain: a billing day, scope, model, token type, tier and workload class.

Amounts are ints of 10⁻¹² units of the gateway's currency, quantities of tokens or units of a meter. None: that side
says nothing there, which is not 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple


class Key(NamedTuple):
    """The grain. `scope`: a name of the settings for accounts and the traffic that they bill, '' where none are set.

    `token_type`: a bucket or meter, `input_total`, `output_total`, or what else is bought; '' where the provider
    tells only sums. `service_tier`: '' is the ordinary one.
    """

    day: date
    scope: str
    model: str
    token_type: str
    service_tier: str
    workload_class: str

    @property
    def series(self) -> tuple[str, ...]:
        """What is the same from day to day."""
        return tuple(self[1:])


@dataclass(slots=True)
class Metered:
    """The gateway's side of a key. `estimated` and `estimated_cost` are parts of quantity and cost.

    `by_hour`: the quantity of each hour of the provider's day, from 0. `twice`: what two gateways metered, beyond once.
    """

    quantity: int = 0
    cost: int = 0
    estimated: int = 0
    estimated_cost: int = 0
    twice: int = 0
    by_hour: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Invoiced:
    """The provider's side of a key. `quantity` None: it tells amounts only, or (then `cost` is None) quantities only.

    `lines`: how many lines of the export; `repeated`: quantity and cost of lines that are there more than once, byte by
    byte, beyond the first. `payers`: quantity by account, project and key ('org-1/proj_x/key_y').
    """

    quantity: Decimal | None = None
    cost: int | None = None
    lines: int = 0
    repeated_quantity: Decimal = Decimal(0)
    repeated_cost: int = 0
    payers: dict[str, Decimal] = field(default_factory=dict)


def side_of(token_type: str) -> str:
    """input or output of a token type; a meter is a side of its own."""
    return next((side for side in ("input", "output") if token_type.startswith(side)), token_type)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Attempts of a day, scope, model, tier and class whose usage nobody knows, and how large the others are.

    `cancelled`: callers left; `retried`: failed, timed out, never answered; `untold`: answered without usage.

    `largest`: of input and of output the most of one kind that an attempt of this model used on any day.
    """

    cancelled: int = 0
    retried: int = 0
    untold: int = 0
    largest: Mapping[str, int] = field(default_factory=dict)

    @property
    def attempts(self) -> int:
        """How many there are."""
        return self.cancelled + self.retried + self.untold

    def at_most(self, token_type: str) -> int:
        """What all attempts of unknown usage may have used of a token type."""
        return self.attempts * self.largest.get(side_of(token_type), 0)


@dataclass(frozen=True, slots=True)
class Charge:
    """A line of the provider that no usage stands behind: `category` credit, tax, fee, commitment, rounding,
    adjustment."""

    day: date
    scope: str
    category: str
    what: str
    amount: int
    model: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A part of a variance and its cause. `amount`: what the provider bills beyond the gateway's cost, may be negative.

    `key` None: a charge that belongs to no usage. `evidence`: plain data for JSON.
    """

    cause: str
    day: date
    scope: str
    amount: int
    quantity: Fraction | None
    key: Key | None
    model: str
    evidence: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tolerances:
    """What is let pass, of each key. `quantity_ppm`: of the invoiced quantity, in millionths; `amount`: 10⁻¹² units.

    `late_days`: how many days later a provider may bill a use. `estimated_percent`: by how much of themselves estimates
    may be off.
    """

    quantity_ppm: int = 0
    amount: int = 0
    late_days: int = 3
    estimated_percent: int = 50


@dataclass(slots=True)
class Sides:
    """Everything that is compared. `currencies`: of the invoice, as it was before conversion."""

    metered: dict[Key, Metered] = field(default_factory=dict)
    invoiced: dict[Key, Invoiced] = field(default_factory=dict)
    traffic: dict[tuple[date, str, str, str, str], Traffic] = field(default_factory=dict)
    charges: list[Charge] = field(default_factory=list)
    billed_days: frozenset[date] = frozenset()
    rounded_to: int = 1
    converted: bool = False

    def all_keys(self) -> list[Key]:
        """All keys of both sides on billed days, in order."""
        return sorted(key for key in self.metered.keys() | self.invoiced.keys() if key.day in self.billed_days)

    def around(self, key: Key) -> Traffic:
        """The traffic that a key is part of."""
        return self.traffic.get((key.day, key.scope, key.model, key.service_tier, key.workload_class), NO_TRAFFIC)


NO_TRAFFIC = Traffic()
