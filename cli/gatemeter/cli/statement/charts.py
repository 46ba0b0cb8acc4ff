"""Charts of the page as inline SVG: no script, every bar with its number as text, sizes in whole tenths of a unit.

What is negative is filled with the pattern `negative`, which the page defines once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from gatemeter.sinks.reports.cents import PICO_DIGITS, format_minor, minor_digits, round_half_even

_HALF: Final = 470
_WHOLE: Final = 980
_AMOUNT: Final = 105  # units for the amount after a bar
_CHARACTER: Final = 7  # units of a character at most; what does not fit is the bar's title, and in the table
_NICE: Final = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Bar:
    """`pico`: its length, in 10⁻¹² of the currency; `shown`: the amount as the table has it."""

    label: str
    pico: int
    shown: str


def bars(title: str, rows: Sequence[Bar], colour: str, *, wide: bool = False) -> Markup:
    """Horizontal bars, one a row; what is negative (a reversal, what was absorbed) is hatched. `wide`: a whole line."""
    width, label = (_WHOLE, 430) if wide else (_HALF, 196)
    most = max((abs(row.pico) for row in rows), default=0) or 1
    longest = 10 * (width - label - _AMOUNT)
    parts = [
        _bar(row, 26 * place + 3, label, max(5, abs(row.pico) * longest // most), _fill(row, colour))
        for place, row in enumerate(rows)
    ]
    said = "; ".join(f"{row.label or 'none'} {row.shown}" for row in rows)
    return _svg(title, said, width, 26 * len(rows) + 4, Markup("").join(parts))


def _fill(bar: Bar, colour: str) -> str:
    return colour if bar.pico >= 0 else "url(#negative)"


def _bar(row: Bar, top: int, label: int, length: int, fill: str) -> Markup:
    """The end of a long name says more than its beginning: `…retail-banking/branch-copilot`."""
    name, fits = row.label or "none", (label - 10) // _CHARACTER
    return Markup(
        '<g><title>{whole}: {amount}</title><text x="0" y="{text_y}" class="label">{name}</text>'
        '<rect x="{label}" y="{y}" width="{width}" height="17" rx="2" fill="{fill}"/>'
        '<text x="{after}" y="{text_y}" class="value">{amount}</text></g>'
    ).format(
        whole=name,
        amount=row.shown,
        name=name if len(name) <= fits else f"…{name[1 - fits :]}",
        label=label,
        y=top,
        text_y=top + 13,
        width=_tenths(length),
        after=_tenths(10 * label + length + 60),
        fill=fill,
    )


def columns(title: str, days: Sequence[Bar], currency: str, colour: str) -> Markup:
    """A column a day, with a scale; days are counted from 1."""
    high, low = max((day.pico for day in days), default=0), min((day.pico for day in days), default=0)
    step = _step(max(high, -min(low, 0)), currency)
    top = step * max(1, -(-max(high, 0) // step))
    bottom = step * (min(low, 0) // step)
    span, plot = top - bottom, 1_600
    zero = 100 + plot * top // span
    pitch = (10 * _WHOLE - 740) // max(1, len(days))
    lines = [_line(100 + plot * (top - tick) // span, tick, currency) for tick in range(bottom, top + 1, step)]
    drawn = [
        _column(place, day, 700 + pitch * place, pitch, zero, plot * abs(day.pico) // span, colour)
        for place, day in enumerate(days)
    ]
    said = "; ".join(f"day {day.label} {day.shown}" for day in days if day.pico)
    return _svg(title, said or "nothing was spent", _WHOLE, 196, Markup("").join([*lines, *drawn]))


def _column(place: int, day: Bar, left: int, pitch: int, zero: int, length: int, colour: str) -> Markup:
    up = day.pico >= 0
    bar = Markup(
        "<g><title>day {label}: {amount}</title>"
        '<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}"/></g>'
    ).format(
        label=day.label,
        amount=day.shown,
        x=_tenths(left + pitch // 8),
        y=_tenths(zero - length if up else zero),
        width=_tenths(pitch * 3 // 4),
        height=_tenths(length),
        fill=_fill(day, colour),
    )
    if place and (place + 1) % 5:
        return bar
    number = Markup('<text x="{x}" y="190" class="tick" text-anchor="middle">{label}</text>')
    return bar + number.format(x=_tenths(left + pitch // 2), label=day.label)


def _line(at: int, tick: int, currency: str) -> Markup:
    unit_pico: int = 10 ** (PICO_DIGITS - minor_digits(currency))
    amount = format_minor(round_half_even(tick, unit_pico), currency)
    return Markup(
        '<line x1="66" x2="978" y1="{y}" y2="{y}" class="grid"/>'
        '<text x="60" y="{text_y}" class="tick" text-anchor="end">{amount}</text>'
    ).format(y=_tenths(at), text_y=_tenths(at + 35), amount=amount)


def _step(most: int, currency: str) -> int:
    """1, 2 or 5 times a power of ten of the smallest unit, so that three to five lines are drawn."""
    unit: int = 10 ** (PICO_DIGITS - minor_digits(currency))
    while True:
        for nice in _NICE:
            if most <= 4 * nice * unit:
                return nice * unit
        unit *= 10


def _svg(title: str, said: str, width: int, height: int, content: Markup) -> Markup:
    head = Markup(
        '<svg role="img" viewBox="0 0 {width} {height}" class="chart"><title>{title}</title><desc>{said}</desc>'
    ).format(width=width, height=height, title=escape(title), said=said)
    return head + content + Markup("</svg>")


def _tenths(value: int) -> str:
    return f"{value // 10}.{value % 10}"
