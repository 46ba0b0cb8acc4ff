"""The usage while a shape reads it: leaves carved out of the provider's totals, and whether they add up."""

from __future__ import annotations

from typing import Any, Final

from gatemeter.producers.usage.parts import MAX_REASON_LENGTH, Notes, Part, total_of
from gatemeter.producers.usage.result import Consistency, Usage
from gatemeter.schemas import limits
from gatemeter.schemas.tables import METERS

ORDINARY_TIERS: Final = frozenset({"default", "standard", "auto", "on_demand", "service_tier_unspecified"})
"""What providers call the tier that has no name in rate cards (lower case)."""


class Draft:
    """Collects one `Usage`. Nothing is ever moved between leaves to make a sum fit: what does not fit is told."""

    def __init__(self) -> None:
        self.quantities: dict[str, int] = {}
        self.notes = Notes()
        self.mismatches: list[str] = []
        self.other_models: list[Usage] = []
        self.texts: dict[str, Any] = {}
        self.final = True
        self._checks = 0

    def open(self, value: dict[str, Any]) -> Part:
        """`value` as the object that the shape reads."""
        return Part(value, "", self.notes)

    def put(self, name: str, quantity: int | None) -> None:
        """Sets a bucket or meter."""
        if quantity is None:
            self.quantities.pop(name, None)
        else:
            self.quantities[name] = quantity

    def add(self, name: str, quantity: int | None) -> None:
        """Adds to a bucket or meter; unknown adds nothing."""
        if quantity is not None:
            self.quantities[name] = self.quantities.get(name, 0) + quantity

    def rest(self, where: str, whole: int | None, *parts: int | None) -> int | None:
        """`whole` less the parts that are known; None, and a mismatch, where the parts are more than the whole."""
        if whole is None:
            return None
        taken = total_of(parts)
        if taken > whole:
            self.mismatches.append(f"{where}: must be at least {taken}, the sum of its parts, got {whole}")
            return None
        return whole - taken

    def check(self, where: str, stated: int | None, found: int | None) -> None:
        """Compares one of the provider's totals with what the leaves give; nothing where either is not known."""
        if stated is None or found is None:
            return
        self._checks += 1
        if stated != found:
            self.mismatches.append(f"{where}: must be {found}, the sum of its leaves, got {stated}")

    def check_total(self, where: str, stated: int | None) -> None:
        """Compares the provider's grand total with the sum of all token leaves."""
        self.check(where, stated, self._tokens())

    def identify(
        self, answer: Part, *, request_id: str = "id", model: str = "model", tier: str | None = "service_tier"
    ) -> None:
        """Reads who served the answer. A `batch` tier is a workload class, not a tier of rate cards."""
        self.texts["provider_request_id"] = answer.text(request_id)
        self.texts["served_model"] = answer.text(model)
        if tier is not None:
            self.set_tier(answer.text(tier))

    def set_tier(self, tier: str | None) -> None:
        """Sets service tier or workload class from the provider's word for it."""
        if tier is None:
            return
        name = tier.lower()
        if name == "batch":
            self.texts["workload_class"] = "batch"
        elif name not in ORDINARY_TIERS:
            self.texts["service_tier"] = name

    def finish(self, answer: Part, key: str) -> None:
        """Reads why the answer ended."""
        self.texts["finish_reason"] = answer.text(key, MAX_REASON_LENGTH)

    def usage(self, shape: str, usage_raw: str | None) -> Usage:
        """The finished usage. Leaves that together exceed an event's range are dropped: the event would be refused."""
        total = self._tokens()
        if total > limits.MAX_TOKENS_PER_EVENT:
            accepted = f"0 to {limits.MAX_TOKENS_PER_EVENT}"
            lost = f"sum of token buckets: must be {accepted}"
            self.notes.complaints.append(f"{lost}, got {total}")
            self.notes.lost_counts.append(lost)
            self.quantities = {name: known for name, known in self.quantities.items() if name in METERS}
        return Usage(
            shape=shape,
            final=self.final,
            usage_raw=usage_raw,
            consistency=self._consistency(),
            mismatches=_each_once(self.mismatches),
            complaints=_each_once(self.notes.complaints),
            lost_counts=_each_once(self.notes.lost_counts),
            other_models=tuple(self.other_models),
            **self.quantities,  # type: ignore[arg-type]  # names of counts only; texts are below
            **self.texts,
        )

    def _tokens(self) -> int:
        return sum([known for name, known in self.quantities.items() if name not in METERS])

    def _consistency(self) -> Consistency:
        if self.mismatches or self.notes.lost_counts:
            return "mismatch"
        return "consistent" if self._checks else "unverified"


def _each_once(lines: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(lines)) if lines else ()
