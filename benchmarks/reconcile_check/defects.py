"""The planted differences, one function a kind; each on days, projects and models that no other one touches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Final

from benchmarks.exports import Line
from benchmarks.reconcile_check.bills import EXPORTED, OUR_RATE, THEIR_RATE, Bills, Place, later, pico, place, rounded
from benchmarks.reconcile_check.world import DAYS, PROVIDERS, Use

GPT, O3 = PROVIDERS["openai"].models
SONNET, HAIKU = PROVIDERS["anthropic"].models
CLAUDE, NOVA = PROVIDERS["aws"].models


def _uses_of(bills: Bills, provider: str, project: str, model: str, day: date) -> list[Use]:
    calendar = PROVIDERS[provider].calendar
    where = (provider, project, model)
    return [use for use in bills.used if (use.provider, use.project, use.model) == where and use.day(calendar) == day]


def _of(provider: str, project: str, model: str, *days: date) -> Callable[[Line], bool]:
    name = PROVIDERS[provider].project(project)
    return lambda line: line.project == name and line.model == model and line.day in days


# Differences of what was metered: before the bill is made.


def cancelled_streams(bills: Bills) -> None:
    """Callers left three streams; Anthropic bills what it had written, and nobody told the gateway."""
    plant = bills.plant("cancelled streams")
    _untold(bills, "cancelled", ("anthropic", "search", SONNET, DAYS[6]), plant.expected, "cancelled_streams")


def retries_charged(bills: Bills) -> None:
    """Attempts that timed out at the gateway and were billed."""
    plant = bills.plant("retries charged")
    _untold(bills, "timeout", ("anthropic", "support", HAIKU, DAYS[7]), plant.expected, "retries_charged")


def _untold(
    bills: Bills, status: str, where: tuple[str, str, str, date], expected: dict[Place, int], cause: str
) -> None:
    provider, project, model, day = where
    for use in sorted(_uses_of(bills, *where), key=lambda use: sum(use.tokens.values()))[:3]:
        use.status, use.known, use.billed_tokens = status, False, use.tokens
        for bucket, quantity in use.tokens.items():
            key = Place(provider, cause, day, project, model, EXPORTED[bucket])
            expected[key] += bills.pico(provider, model, EXPORTED[bucket], quantity)


def estimated_tokens(bills: Bills) -> None:
    """The gateway estimated the answers of a day, 5 % too low."""
    plant = bills.plant("estimated tokens")
    for use in _uses_of(bills, "openai", "support", O3, DAYS[9]):
        use.usage_source, use.billed_tokens = "estimated", dict(use.tokens)
        for bucket, quantity in use.billed_tokens.items():
            use.tokens[bucket] = quantity * 95 // 100
            key = Place("openai", "estimated_tokens", DAYS[9], "support", O3, EXPORTED[bucket])
            plant.expected[key] += bills.pico("openai", O3, EXPORTED[bucket], quantity - use.tokens[bucket])


def metered_twice(bills: Bills) -> None:
    """Two gateways in a row metered the calls of a day, and no authority is set between them."""
    plant = bills.plant("metered twice")
    for number, use in enumerate(_uses_of(bills, "aws", "support", NOVA, DAYS[10])):
        use.provider_request_id = f"seen-twice-{number}"
        again = replace(use, gateway_id="gw-z-edge", billed_tokens={"output_text_visible": 0})
        bills.used.append(again)
        for bucket, quantity in use.tokens.items():
            key = Place("aws", "duplicate", DAYS[10], "support", NOVA, EXPORTED[bucket])
            plant.expected[key] -= bills.pico("aws", NOVA, EXPORTED[bucket], quantity)


def other_time_zone(bills: Bills) -> None:
    """Google exports one project in UTC days, the rest in Pacific ones."""
    plant = bills.plant("time-zone edge")
    sums: dict[tuple[date, str, str], int] = defaultdict(int)
    for use in bills.used:
        if (use.provider, use.project) == ("vertex", "support"):
            for bucket, quantity in use.tokens.items():
                sums[use.day("UTC"), use.model, EXPORTED[bucket]] += quantity
                sums[use.day(PROVIDERS["vertex"].calendar), use.model, EXPORTED[bucket]] -= quantity
    for (day, model, token_type), quantity in sums.items():
        if quantity and day in DAYS:
            key = Place("vertex", "time_zone_edge", day, "support", model, token_type)
            plant.expected[key] = bills.pico("vertex", model, token_type, quantity)
    bills.shift("vertex", "support")


# Differences of what is billed.


def stolen_key(bills: Bills) -> None:
    """A key that no gateway holds uses a model that others use too, and one that nobody does."""
    plant = bills.plant("unmetered use")
    project = PROVIDERS["openai"].project("search")
    for day, model, quantity in ((DAYS[11], GPT, 4_000_000), (DAYS[12], GPT, 9_000_000)):
        for token_type in ("input_text_uncached", "output_total"):
            amount = bills.amount("openai", model, token_type, quantity)
            line = Line(day, model, token_type, quantity, amount, account="org-1", project=project, key_id="key_stolen")
            bills.lines["openai"].append(line)
            plant.expected[place("openai", "unmetered", line)] = pico(amount)


def not_billed(bills: Bills) -> None:
    """A model's day is not on the bill."""
    plant = bills.plant("missing provider line")
    for line in bills.change("openai", _of("openai", "support", GPT, DAYS[13]), lambda _: ()):
        plant.expected[place("openai", "missing_provider_line", line)] = -pico(line.amount)


def dearer(bills: Bills) -> None:
    """A model costs 12 % more than its contract says, from a day on."""
    plant = bills.plant("price difference")
    chosen = _of("anthropic", "search", HAIKU, *DAYS[20:])
    for line in bills.change("anthropic", chosen, lambda line: [_times(line, Decimal("1.12"))]):
        plant.expected[place("anthropic", "price_difference", line)] = pico(line.amount) * 12 // 100


def _times(line: Line, factor: Decimal) -> Line:
    return replace(line, amount=(line.amount or Decimal(0)) * factor)


def billed_as_batch(bills: Bills) -> None:
    """Half of a day's calls are billed as batch, at half the price."""
    plant = bills.plant("tier or batch")

    def halved(line: Line) -> Iterable[Line]:
        if line.token_type == "input_text_cache_read":
            yield line
            return
        moved = int(line.quantity or 0) // 2
        kept = int(line.quantity or 0) - moved
        batch = bills.amount("aws", CLAUDE, line.token_type, moved, "batch")
        yield replace(line, quantity=kept, amount=bills.amount("aws", CLAUDE, line.token_type, kept))
        as_batch = replace(line, quantity=moved, amount=batch, workload_class="batch")
        plant.expected[place("aws", "tier_or_batch", as_batch)] += pico(batch)
        plant.expected[place("aws", "tier_or_batch", line)] -= bills.pico("aws", CLAUDE, line.token_type, moved)
        yield as_batch

    bills.change("aws", _of("aws", "search", CLAUDE, DAYS[14]), halved)


def billed_late(bills: Bills) -> None:
    """A third of a day is billed two days later."""
    plant = bills.plant("late usage")
    moved: list[Line] = []

    def without(line: Line) -> Iterable[Line]:
        late = int(line.quantity or 0) // 3
        if not late:
            yield line
            return
        amount = bills.amount("aws", NOVA, line.token_type, late)
        moved.append(replace(line, quantity=late, amount=amount))
        kept = int(line.quantity or 0) - late
        yield replace(line, quantity=kept, amount=bills.amount("aws", NOVA, line.token_type, kept))

    bills.change("aws", _of("aws", "search", NOVA, DAYS[15]), without)
    for line in moved:
        bills.lines["aws"].append(later(line, 2))
        plant.expected[place("aws", "late_usage", line)] = -pico(line.amount)
        plant.expected[place("aws", "late_usage", later(line, 2))] = pico(line.amount)


def billed_twice(bills: Bills) -> None:
    """Lines of a day are on the bill twice, byte by byte."""
    plant = bills.plant("duplicate line")
    for line in bills.change("aws", _of("aws", "support", CLAUDE, DAYS[16]), lambda line: (line, line)):
        plant.expected[place("aws", "duplicate", line)] = pico(line.amount)


def given_away(bills: Bills) -> None:
    """A model is free on one day."""
    plant = bills.plant("free tier")
    chosen = _of("openai", "search", O3, DAYS[17])
    for line in bills.change("openai", chosen, lambda line: [replace(line, amount=Decimal(0))]):
        plant.expected[place("openai", "credit", line)] = -pico(line.amount)


def charges(bills: Bills) -> None:
    """Tax, a support plan, a credit: on Azure's bill, in euros."""
    for kind, cause, category, text in (
        ("tax", "tax", "tax", "312.55"),
        ("fixed fee", "fixed_fee", "fee", "100.00"),
        ("credit", "credit", "credit", "-25.40"),
    ):
        plant = bills.plant(kind)
        line = Line(
            *(DAYS[30], "", "", None, Decimal(text)),
            **{"account": "billing-1", "project": PROVIDERS["azure"].project("search"), "currency": "EUR"},
            charge_category=category,
            line_item=kind,
        )
        bills.lines["azure"].append(line)
        plant.expected[place("azure", cause, line)] = pico(Decimal(text) * OUR_RATE)


def other_exchange_rate(bills: Bills) -> None:
    """Azure bills in euros, converted at its own rate. Must come before `charges`."""
    plant = bills.plant("exchange rate")

    def in_euros(line: Line) -> Iterable[Line]:
        euros = ((line.amount or Decimal(0)) / THEIR_RATE).quantize(Decimal(1).scaleb(-12))
        ours = round(Fraction(euros) * Fraction(OUR_RATE) * 10**12)
        plant.expected[place("azure", "fx", line)] = ours - pico(line.amount)
        yield replace(line, amount=euros, currency="EUR")

    bills.change("azure", lambda line: True, in_euros)


def rounding(bills: Bills) -> None:
    """Google rounds every line to a millionth."""
    plant = bills.plant("rounding")

    def to_millionths(line: Line) -> Iterable[Line]:
        amount = rounded(line.amount or Decimal(0))
        if amount != line.amount:
            plant.expected[place("vertex", "rounding", line)] = pico(amount) - pico(line.amount)
        yield replace(line, amount=amount)

    bills.change("vertex", lambda line: True, to_millionths)


METERED: Final = (cancelled_streams, retries_charged, estimated_tokens, metered_twice, other_time_zone)
BILLED: Final = (
    stolen_key,
    not_billed,
    dearer,
    billed_as_batch,
    billed_late,
    billed_twice,
    given_away,
    other_exchange_rate,
    charges,
    rounding,
)


def planted(bills: Bills) -> None:
    """All of them."""
    for change in METERED:
        change(bills)
    bills.bill()
    for change in BILLED:
        change(bills)
