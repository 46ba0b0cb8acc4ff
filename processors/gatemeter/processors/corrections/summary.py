"""What a run would change: per tenant, model and currency, how many rows and from what to what.

Amounts are before the retry rule, ints of 10⁻¹² currency units; what has no price is counted beside them, never as
zero. A row whose currency changes leaves its old currency's line and enters the new one's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gatemeter.processors.corrections.rows import CorrectionRow
from gatemeter.processors.corrections.truths import Truth


@dataclass
class SummaryLine:
    """One tenant, model ('' for decisions and free entries) and currency. `rows`: those that are staged."""

    tenant_id: str
    model: str
    currency: str
    rows: int = 0
    charge_before: int = 0
    charge_after: int = 0
    provider_before: int = 0
    provider_after: int = 0
    unpriced_before: int = 0
    unpriced_after: int = 0

    @property
    def delta(self) -> int:
        """What the charge changes by."""
        return self.charge_after - self.charge_before


@dataclass
class Summary:
    """`examined`: rows that were looked at. `left`: how many of them stay as they are although asked for, by why."""

    examined: int = 0
    staged: int = 0
    left: dict[str, int] = field(default_factory=dict)
    _lines: dict[tuple[str, str, str], SummaryLine] = field(default_factory=dict)

    def leave(self, why: str) -> None:
        """One more row that stays as it is."""
        self.left[why] = self.left.get(why, 0) + 1

    def add(self, truth: Truth, row: CorrectionRow) -> None:
        """One more row that takes the place of a true one."""
        self.staged += 1
        model = truth.fact["served_model"] or truth.fact["model"] if truth.key.target == "usage" else ""
        before = self._line(truth.attribution["tenant_id"], model, truth.terms["currency"])
        before.charge_before += truth.amounts["charge"] or 0
        before.provider_before += truth.amounts["provider_cost"] or 0
        before.unpriced_before += truth.terms["price_status"] == "unpriced"
        tenant = row.tenant_id if row.tenant_id is not None else truth.fact["tenant_id"]
        self._after(self._line(tenant, model, row.currency), row)

    def add_free(self, row: CorrectionRow) -> None:
        """One more entry of its own."""
        self.staged += 1
        self._after(self._line(row.tenant_id or "", "", row.currency), row)

    def _after(self, line: SummaryLine, row: CorrectionRow) -> None:
        line.rows += 1
        line.charge_after += row.charge or 0
        line.provider_after += row.provider_cost or 0
        line.unpriced_after += row.price_status == "unpriced"

    def _line(self, tenant_id: str, model: str, currency: str) -> SummaryLine:
        return self._lines.setdefault((tenant_id, model, currency), SummaryLine(tenant_id, model, currency))

    @property
    def lines(self) -> list[SummaryLine]:
        """By tenant, model and currency."""
        return [line for _, line in sorted(self._lines.items())]

    @property
    def deltas(self) -> Mapping[str, int]:
        """What the charge changes by, by currency."""
        totals: dict[str, int] = {}
        for line in self.lines:
            totals[line.currency] = totals.get(line.currency, 0) + line.delta
        return totals
