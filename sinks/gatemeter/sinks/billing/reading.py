"""A row becomes lines: the mapping says which column is what, and a row that does not fit is a `BadRow`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from gatemeter.schemas.tables import METERS
from gatemeter.sinks.billing.amounts import currency_of, difference, multiplied, number_of, rounded, scaled
from gatemeter.sinks.billing.calendars import (
    MOST_DAYS,
    calendar_of,
    day_of,
    days_between,
    end_of_day,
    instant_at,
    instant_of,
    micros_of,
    period_days,
)
from gatemeter.sinks.billing.errors import BadRow
from gatemeter.sinks.billing.lines import CATEGORIES, CLASSES, COUNTED, TOKEN_TYPES, BillingLine
from gatemeter.sinks.billing.mapping import NAMES, Mapping, Measure
from gatemeter.sinks.billing.secrets import scrubbed
from gatemeter.sinks.billing.values import Values, lookup, raw_of, tags_of, text_of

_CACHED: Final = 50_000
_ONE: Final = Decimal(1)
_MATCHED: Final = 1_000  # characters of a text that patterns see: no name is longer, and no file makes them slow


@dataclass(frozen=True, slots=True)
class When:
    """`day` is what the charge is billed for: its own day, or the nearest one of the billing `period` that bills it."""

    starts_us: int
    ends_us: int
    day: date
    calendar: str
    period: tuple[date, date] | None


class RowReader:
    """Reads the rows of one import. `calendar`, `account`: what the operator says of the whole file, '' nothing.

    Names and times of a bill repeat themselves, so what was made of them is kept.
    """

    def __init__(self, mapping: Mapping, *, calendar: str = "", account: str = "") -> None:
        self._mapping, self._account = mapping, account
        self._calendar = calendar
        columns = [column for pattern in mapping.patterns for column in (*pattern.columns, *pattern.where)]
        columns += [column for name in NAMES for column in mapping.columns.get(name, ())]
        self._all_naming = self._naming = tuple(dict.fromkeys(columns))
        self._columns = mapping.columns
        self._names: dict[tuple[str, ...], dict[str, str]] = {}
        self._times: dict[tuple[Any, ...], When] = {}
        self.rounded = 0
        self.period: tuple[date, date] | None = None  # first and last day that the row read last says it is billed for

    def limit(self, columns: frozenset[str] | None) -> None:
        """Looks for nothing but these columns from now on; None: rows have columns of their own."""

        def there(path: str) -> bool:
            return columns is None or path in columns or path.split(".", 1)[0] in columns

        self._naming = tuple(filter(there, self._all_naming))
        self._columns = {field: tuple(filter(there, paths)) for field, paths in self._mapping.columns.items()}
        self._names.clear()

    def selected(self, values: Values) -> bool:
        """Whether the row is of a service that is read."""
        select = self._mapping.select
        return not select or any(
            pattern.match.search(text_of(lookup(values, column))) for pattern in select for column in pattern.columns
        )

    def empty_bucket(self, values: Values) -> list[date]:
        """The days of a row that tells nothing but a time: nothing was used in it. None of any other
        row. Raises `BadRow`.
        """
        bucket = self._mapping.bucket
        if not bucket or any(value for name, value in values.items() if name not in bucket):
            return []
        when = self._when(values, self._mapping.provider)
        zone = calendar_of(when.calendar)
        last = day_of(instant_at(max(when.starts_us, when.ends_us - 1)), zone)
        if (last - when.day).days > MOST_DAYS:
            raise BadRow("ends_at", f"must be at most {MOST_DAYS:,} days after starts_at, got {last}")
        return days_between(when.day, last)

    def lines(self, values: Values, line: int, source_line: int) -> Iterator[BillingLine]:
        """The lines of a row; the first has the number `line`. Raises `BadRow`."""
        names = self._named(values)
        when = self._when(values, names["provider"])
        if self._mapping.measures:
            yield from self._measured(values, names, when, line, source_line)
            return
        quantity, unit = self._quantity(values, names)
        amounts = {field: self._amount(values, field) for field in ("amount", "list_amount")}
        currency = self._text(values, "currency")
        if amounts["amount"] is None and self._mapping.content != "usage":
            raise BadRow("amount", "must be given, got nothing")
        if amounts["amount"] is None and quantity is None:
            raise BadRow("quantity", "must be given, got nothing")
        yield self._line(
            values,
            names,
            when,
            line=line,
            source_line=source_line,
            token_type=names["token_type"],
            quantity=quantity,
            unit=unit,
            currency="" if self._mapping.content == "usage" and not currency else currency_of(currency),
            **amounts,
        )

    def _measured(
        self, values: Values, names: dict[str, str], when: When, line: int, source_line: int
    ) -> Iterator[BillingLine]:
        """A line for each counter that is above zero: a covered day without a line had none."""
        told: set[str] = set()
        found: list[tuple[Measure, Decimal]] = []
        for measure in self._mapping.measures:
            plus = [number_of(name, self._value(values, name)) for name in measure.plus]
            if measure.token_type in told or None in plus:
                continue
            told.add(measure.token_type)
            minus = [number_of(name, self._value(values, name)) for name in measure.minus]
            count = multiplied(difference(_given(plus), _given(minus)), measure.factor)
            if count < 0:
                raise BadRow(measure.plus[0], f"must not be less than its parts {', '.join(measure.minus)}: {count:f}")
            if count:
                found.append((measure, count))
        if not told:
            raise BadRow(self._mapping.measures[0].plus[0], "must be given, got nothing")
        for offset, (measure, count) in enumerate(found):
            yield self._line(
                values,
                names,
                when,
                line=line + offset,
                source_line=source_line,
                token_type=measure.token_type,
                quantity=self._rounded(count),
                unit=_unit(measure.token_type, ""),
            )

    def _line(self, values: Values, names: dict[str, str], when: When, **given: Any) -> BillingLine:
        return BillingLine(
            **{"amount": None, "list_amount": None, "currency": ""} | given,
            provider=names["provider"],
            content=self._mapping.content,
            account=scrubbed(self._text(values, "account")) or self._account,
            project=names.get("project") or scrubbed(self._text(values, "project")),
            key_id=names.get("key_id") or scrubbed(self._text(values, "key_id")),
            billing_day=when.day,
            calendar=when.calendar,
            starts_us=when.starts_us,
            ends_us=when.ends_us,
            charge_category=names["charge_category"],
            charge_class=names["charge_class"],
            line_item=scrubbed(self._text(values, "line_item")),
            model=names["model"],
            service_tier=names["service_tier"],
            workload_class=names["workload_class"],
            region=scrubbed(names.get("region") or self._text(values, "region")),
            tags=scrubbed(tags_of(values, self._columns.get("tags", ()), {"context": names["context"]})),
            raw=scrubbed(raw_of(values)),
        )

    def _value(self, values: Values, path: str) -> Any:
        value = lookup(values, path)
        return None if isinstance(value, str) and value in self._mapping.nulls else value

    def _first(self, values: Values, field: str) -> Any:
        for path in self._columns.get(field, ()):
            value = self._value(values, path)
            if value is not None and value != "":
                return value
        return None

    def _text(self, values: Values, field: str) -> str:
        return text_of(self._first(values, field))

    def _named(self, values: Values) -> dict[str, str]:
        key = tuple(text_of(self._value(values, column)) for column in self._naming)
        names = self._names.get(key)
        if names is None:
            if len(self._names) >= _CACHED:
                self._names.clear()
            names = self._names[key] = self._derived(dict(zip(self._naming, key, strict=True)))
        return names

    def _derived(self, there: dict[str, str]) -> dict[str, str]:
        """Fields by patterns, each given by the first that gives it; then by columns; then what `values` make of it."""
        texts = dict.fromkeys(self._all_naming, "") | {column: text[:_MATCHED] for column, text in there.items()}
        names: dict[str, str] = {}
        for pattern in self._mapping.patterns:
            found = (match for column in pattern.columns if (match := pattern.match.search(texts[column])))
            match = next(found, None)
            if match is None or not all(where.search(texts[column]) for column, where in pattern.where.items()):
                continue
            meant = {name: self._meaning(name, text) for name, text in match.groupdict().items() if text}
            for name, value in {**meant, **pattern.fixed}.items():
                names.setdefault(name, value)
        for name in NAMES:
            if name not in names:
                told = next(filter(None, (texts[column] for column in self._mapping.columns.get(name, ()))), "")
                names[name] = self._meaning(name, told)
        names["provider"] = names["provider"] or self._mapping.provider
        names["charge_category"] = names["charge_category"] or "usage"
        names.setdefault("context", "")
        _check_names(names)
        return {name: scrubbed(value) for name, value in names.items()}

    def _meaning(self, name: str, told: str) -> str:
        table = self._mapping.values.get(name, {})
        text = "-".join(told.lower().split()) if name in self._mapping.slug else told
        return table.get(told.lower(), table.get(text.lower(), text))

    def _when(self, values: Values, provider: str) -> When:
        told = (self._first(values, field) for field in ("starts_at", "ends_at", "period_start", "period_end"))
        bounds = tuple(text_of(value) if isinstance(value, list | dict) else value for value in told)
        when = self._times.get((provider, *bounds))
        if when is None:
            if len(self._times) >= _CACHED:
                self._times.clear()
            calendar = self._calendar or self._mapping.calendars.get(provider, self._mapping.calendar)
            when = self._times[(provider, *bounds)] = _when(calendar, *bounds)
        self.period = when.period
        return when

    def _quantity(self, values: Values, names: dict[str, str]) -> tuple[Decimal | None, str]:
        given = self._text(values, "unit") or names.get("unit", "")
        token_type = names["token_type"]
        quantity = number_of("quantity", self._first(values, "quantity"))
        factor = Decimal(names["factor"]) if "factor" in names else self._mapping.units.get(given.lower())
        if quantity is None:
            return None, _unit(token_type, given)
        if factor is None and given and token_type in TOKEN_TYPES:
            known = ", ".join(sorted(self._mapping.units))
            raise BadRow("unit", f"must be one of {known} where tokens are counted, got {given[:40]!r}")
        return self._rounded(multiplied(quantity, factor or _ONE)), _unit(token_type, given)

    def _amount(self, values: Values, field: str) -> Decimal | None:
        number = number_of(field, self._first(values, field))
        return None if number is None else self._rounded(scaled(number, self._mapping.exponents.get(field, 0)))

    def _rounded(self, number: Decimal) -> Decimal:
        exact, changed = rounded(number)
        self.rounded += changed
        return exact


def _when(calendar: str, starts_at: Any, ends_at: Any, period_start: Any, period_end: Any) -> When:
    zone = calendar_of(calendar)
    starts = instant_of("starts_at", starts_at, zone)
    if starts is None:
        raise BadRow("starts_at", "must be given, got nothing")
    ends = instant_of("ends_at", ends_at, zone) or end_of_day(starts, zone)
    if ends < starts:
        raise BadRow("ends_at", f"must not be before starts_at {starts.isoformat()}, got {ends.isoformat()}")
    day = day_of(starts, zone)
    period = _period(period_start, period_end, zone)
    if period is not None:
        day = min(max(day, period[0]), period[1])
    return When(micros_of(starts), micros_of(ends), day, calendar, period)


def _period(period_start: Any, period_end: Any, zone: ZoneInfo) -> tuple[date, date] | None:
    start = instant_of("period_start", period_start, zone)
    end = instant_of("period_end", period_end, zone)
    if start is None or end is None:
        return None
    if not 0 < (end - start).days <= 400:
        raise BadRow("period_end", f"must be 1 to 400 days after period_start, got {end.isoformat()}")
    return period_days(start, end, zone)


def _given(numbers: Sequence[Decimal | None]) -> list[Decimal]:
    return [number for number in numbers if number is not None]


def _unit(token_type: str, given: str) -> str:
    """Tokens are tokens, meters are named by themselves, and anything else has the unit of the file."""
    if token_type in TOKEN_TYPES:
        return "tokens"
    return token_type if token_type in METERS else scrubbed(given).lower()


def _check_names(names: dict[str, str]) -> None:
    for name, accepted in (("charge_category", CATEGORIES), ("charge_class", CLASSES)):
        if names[name] not in accepted:
            raise BadRow(name, f"must mean one of {', '.join(filter(None, accepted))}, got {names[name][:40]!r}")
    if names["token_type"] not in COUNTED:
        names["token_type"] = ""  # counts something else; the line item says what
    if not names["provider"]:
        raise BadRow("provider", "must be given, got nothing")
