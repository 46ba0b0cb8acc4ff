"""An import: files are read row by row, lines go out in chunks, and what makes them count is written last.

    1. lines and rejected rows, chunk by chunk    a crash here: lines without an import, which no view shows
    2. days that the import speaks of             same
    3. the import itself                          from here on its lines are in force

The id of an import is a digest of what was read and how: the same file in the same way is the same import, and the
lines of one that was killed are written again over themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from hashlib import sha256
from io import TextIOWrapper
from pathlib import Path
from typing import Final, Protocol

from gatemeter.sinks.billing.calendars import MOST_DAYS, calendar_of, day_of, days_between, instant_of
from gatemeter.sinks.billing.errors import BadRow, FileBroken, MappingInvalid, NotThisFormat
from gatemeter.sinks.billing.formats import Format, choose, looks_like
from gatemeter.sinks.billing.lines import BillingLine, Covered, Rejected
from gatemeter.sinks.billing.mapping import Covers, Mapping, load, shipped
from gatemeter.sinks.billing.opening import MAX_UNPACKED, Kind, digest_of, kind_of, text_of
from gatemeter.sinks.billing.pages import Bucket, Pages, columns_of
from gatemeter.sinks.billing.reading import RowReader
from gatemeter.sinks.billing.rows import Row, table_of
from gatemeter.sinks.billing.secrets import scrubbed
from gatemeter.sinks.billing.values import raw_of

CHUNK: Final = 20_000
SHOWN: Final = 100
"""Rejected rows that an outcome lists; all are stored."""

MOST_COVERED: Final = 500_000
"""Days of accounts that an import may speak of; a file with more has its accounts in another column."""

_MOMENT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be imported and how. '' and None: as the format's mapping says. Raises `MappingInvalid`."""

    paths: tuple[Path, ...]
    form: Format
    mapping: Path | None = None
    calendar: str = ""
    account: str = ""
    covers: Covers | None = None
    max_unpacked: int = MAX_UNPACKED

    def __post_init__(self) -> None:
        if self.calendar:
            calendar_of(self.calendar)

    def mappings(self) -> tuple[Mapping, ...]:
        """The mappings of which the file's columns choose one."""
        return (load(self.mapping),) if self.mapping is not None else tuple(map(shipped, self.form.mappings))


@dataclass(frozen=True, slots=True)
class Identity:
    """Which import it is. `digest` is that of its files, `mapping_digest` that of its mappings."""

    import_id: str
    digest: str
    mapping_digest: str
    digests: tuple[str, ...]


@dataclass(slots=True)
class Outcome:
    """What came of it. `left_out`: rows of services that are not read. `rounded`: numbers with more than 12 digits."""

    identity: Identity
    form: str
    provider: str = ""
    content: str = ""
    calendar: str = ""
    covered: list[Covered] = field(default_factory=list)
    lines: int = 0
    rejected: int = 0
    left_out: int = 0
    rounded: int = 0
    lines_digest: str = ""
    shown: list[Rejected] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        """Nothing could be imported: no line, though there were rows or not even a day."""
        return not self.lines and (bool(self.rejected) or not self.covered)

    @property
    def days(self) -> tuple[date, date] | None:
        """First and last day that it speaks of."""
        days = [covered.billing_day for covered in self.covered]
        return (min(days), max(days)) if days else None


class LineSink(Protocol):
    """Where lines go. A chunk that is written again changes nothing."""

    def write_lines(self, import_id: str, lines: Sequence[BillingLine]) -> None:
        """Lines of an import that does not count yet."""

    def write_rejected(self, import_id: str, rejected: Sequence[Rejected]) -> None:
        """Rows that gave none."""


def identify(order: Order) -> Identity:
    """Reads the bytes of the files once. Raises `FileBroken`: one cannot be read, or is given twice."""
    digests: dict[str, str] = {}
    for path in order.paths:
        digest = digest_of(path)
        if digest in digests:
            raise FileBroken(f"{path.name}: is the same as {digests[digest]}: its lines would count twice")
        digests[digest] = path.name
    whole = sorted(digests)
    mapping = _digest([mapping.digest for mapping in order.mappings()])
    said = [order.form.name, whole, mapping, order.calendar, order.account, order.covers or ""]
    return Identity(_digest(said), whole[0] if len(whole) == 1 else _digest(whole), mapping, tuple(digests))


def _digest(data: object) -> str:
    return sha256(json.dumps(data).encode()).hexdigest()


def read(order: Order, identity: Identity, sink: LineSink, said: Callable[[int], None] = lambda lines: None) -> Outcome:
    """Reads the files and writes their lines to `sink`; `said` is told how many after each chunk.

    Raises `BillingError` (of files and formats; nothing counts then) and what the sink raises.
    """
    return _Reading(order, identity, sink, said).run()


class _Reading:
    """The state of one import."""

    def __init__(self, order: Order, identity: Identity, sink: LineSink, said: Callable[[int], None]) -> None:
        self._order, self._sink, self._said = order, sink, said
        self._outcome = Outcome(identity, order.form.name)
        self._mappings = order.mappings()
        self._mapping: Mapping | None = None
        self._reader: RowReader | None = None
        self._chosen_by: Path | None = None  # the file whose columns were looked at last
        self._lines: list[BillingLine] = []
        self._rejected: list[Rejected] = []
        self._digest = sha256()
        self._base = 0  # lines of the files before this one
        self._accounts: set[tuple[str, str]] = set()
        self._days: set[date] = set()
        self._periods: set[tuple[date, date]] = set()

    def run(self) -> Outcome:
        for path in self._order.paths:
            last = 0
            for row in self._rows(path):
                last = max(last, row.line)
                self._row(path, row)
            self._base += last
        self._flush()
        outcome = self._outcome
        mapping, reader = self._mapping, self._reader
        if mapping is None or reader is None:
            mapping = self._mappings[0]
            reader = RowReader(mapping, calendar=self._order.calendar, account=self._order.account)
        outcome.rounded = reader.rounded
        outcome.provider = outcome.provider or mapping.provider
        outcome.content = mapping.content
        outcome.calendar = self._order.calendar or mapping.calendars.get(outcome.provider, mapping.calendar)
        outcome.covered = self._covered(mapping, outcome.provider)
        outcome.lines_digest = self._digest.hexdigest()
        if mapping.note:
            outcome.notes.append(mapping.note)
        return outcome

    def _rows(self, path: Path) -> Iterator[Row]:
        kind = kind_of(path)
        form = self._order.form
        with ExitStack() as stack:
            text = None if kind == "parquet" else stack.enter_context(text_of(path, self._order.max_unpacked))
            if kind not in form.kinds:
                raise _other_kind(path, form, kind, text, self._order.max_unpacked)
            if form.pages and text is not None:
                yield from self._pages(path, Pages(), text)
                return
            table = table_of(path, kind, text, self._order.max_unpacked)
            if table.columns is not None:
                self._choose(frozenset(table.columns), path).limit(frozenset(table.columns))
            for row in table.rows:
                if self._chosen_by != path and row.bad is None:
                    self._choose(columns_of(row.values), path)
                yield row

    def _pages(self, path: Path, pages: Pages, text: TextIOWrapper) -> Iterator[Row]:
        for found in pages.read(path.name, text):
            if isinstance(found, Row):
                if found.bad is None and self._chosen_by != path:
                    self._choose(frozenset(found.values), path)
                yield found
            else:
                self._bucket(found)
        if pages.unfinished:
            self._outcome.notes.append(f"{path.name}: its last page has_more: the file is not all of the report")

    def _choose(self, columns: frozenset[str], path: Path) -> RowReader:
        """Takes the mapping by the columns of a file's first row; a row of JSON that lacks one is a bad row later.

        All files of an import have the mapping of the first.
        """
        allowed = self._mappings if self._mapping is None else (self._mapping,)
        self._mapping = choose(self._order.form, allowed, columns, path.name)
        self._chosen_by = path
        if self._reader is None:
            if self._order.covers == "period" and "period_start" not in self._mapping.columns:
                raise MappingInvalid("covers: 'period' needs columns.period_start and columns.period_end")
            self._reader = RowReader(self._mapping, calendar=self._order.calendar, account=self._order.account)
        self._reader.limit(None)
        return self._reader

    def _bucket(self, bucket: Bucket) -> None:
        zone = calendar_of(self._order.calendar or self._mappings[0].calendar)
        try:
            start = instant_of("start_time", bucket.start, zone)
            end = instant_of("end_time", bucket.end, zone)
        except BadRow:  # its results are rejected with the reason
            return
        if start is None or end is None or not timedelta() < end - start <= timedelta(days=40):
            return
        self._days.update(days_between(day_of(start, zone), day_of(end - _MOMENT, zone)))

    def _row(self, path: Path, row: Row) -> None:
        outcome = self._outcome
        if row.bad is not None:
            self._reject(path, row, row.bad)
            return
        reader = self._reader
        assert reader is not None, "a row has chosen its mapping"
        try:
            if empty := reader.empty_bucket(row.values):
                self._days.update(empty)
                return
            if not reader.selected(row.values):
                outcome.left_out += 1
                return
            lines = list(reader.lines(row.values, outcome.lines + 1, self._base + row.line))
        except BadRow as bad:
            self._reject(path, row, bad)
            return
        if reader.period is not None:
            self._periods.add(reader.period)
        outcome.lines += len(lines)
        for line in lines:
            self._days.add(line.billing_day)
            self._accounts.add((line.provider, line.account))
            outcome.provider = outcome.provider or line.provider
        self._lines += lines
        if len(self._lines) >= CHUNK:
            self._flush()

    def _reject(self, path: Path, row: Row, bad: BadRow) -> None:
        place = f"{path.name}:{row.line}" if len(self._order.paths) > 1 else str(row.line)
        raw = scrubbed(raw_of(row.values)).encode("utf-8", "replace").decode() if row.values else ""
        reason = scrubbed(bad.reason).encode("utf-8", "replace").decode()
        rejected = Rejected(self._base + row.line, place, bad.field, reason, raw)
        self._outcome.rejected += 1
        if len(self._outcome.shown) < SHOWN:
            self._outcome.shown.append(rejected)
        self._rejected.append(rejected)
        if len(self._rejected) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        import_id = self._outcome.identity.import_id
        if self._lines:
            for line in self._lines:
                self._digest.update(repr(line).encode("utf-8", "replace"))
            self._sink.write_lines(import_id, self._lines)
            self._lines = []
            self._said(self._outcome.lines)
        if self._rejected:
            self._sink.write_rejected(import_id, self._rejected)
            self._rejected = []

    def _covered(self, mapping: Mapping, provider: str) -> list[Covered]:
        """Every account of the file has every day of the file."""
        days = _days(self._order.covers or mapping.covers, self._days, self._periods)
        if len(days) > MOST_DAYS:
            raise FileBroken(
                f"its days go from {days[0]} to {days[-1]}: at most {MOST_DAYS:,} days can be in one import"
            )
        accounts = self._accounts or {(provider, self._order.account)}
        if len(accounts) * len(days) > MOST_COVERED:
            found = f"{len(accounts):,} accounts of {len(days):,} days"
            raise FileBroken(f"it has {found}: at most {MOST_COVERED:,} together; is columns.account another column?")
        return [Covered(*account, mapping.content, day) for account in sorted(accounts) for day in days]


def _other_kind(path: Path, form: Format, kind: Kind, text: TextIOWrapper | None, limit: int) -> NotThisFormat:
    """The error for a file that is not even of a kind in which the format comes."""
    table = table_of(path, kind, text, limit)
    columns = table.columns
    if columns is None:
        first = next(table.rows, None)
        columns = tuple(columns_of(first.values)) if first is not None else ()
    found = looks_like(frozenset(columns))
    guess = f"; it looks like {found}" if found else ""
    return NotThisFormat(
        f"{path.name}: expected {form.name}, which comes as {' or '.join(form.kinds)}; it is {kind}{guess}"
    )


def _days(covers: Covers, seen: set[date], periods: Iterable[tuple[date, date]]) -> list[date]:
    days = set(seen)
    spans = list(periods) if covers == "period" else []
    if seen and not spans and covers != "buckets":
        spans = [(min(seen), max(seen))]
    for first, last in spans:
        days.update(days_between(first, last))
    return sorted(days)
