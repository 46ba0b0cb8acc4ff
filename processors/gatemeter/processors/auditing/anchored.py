"""Anchors against the chain: copies of seals that whoever rewrites our tables and topics cannot reach.

Every seal must be in every anchor as it was signed, but for the newest ones, which may be on their way. An anchor keeps
the first seal of each number, so one that it holds otherwise, or beyond our last, shows that ours was replaced or
deleted. A folder is listed; an address is asked for the numbers after our last one until it holds none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.auditing.chain import SealRow, read_seals
from gatemeter.processors.sealing.anchors import (
    Anchor,
    AnchorError,
    FolderAnchor,
    anchor_at,
    name_of_number,
    record_of_copy,
)
from gatemeter.processors.sealing.chain import Seal, SealsRecord, seal_of
from gatemeter.schemas import signing
from gatemeter.schemas.codec import CodecError
from gatemeter.sinks.reports.audit import LISTED, CannotCheck, Finding, listed, note, ok, wrong

CHECK: Final = "anchors"
ON_THEIR_WAY_US: Final = 3_600_000_000
"""How long after its time a seal may still be missing in an anchor."""


@dataclass(frozen=True)
class AnchorCheck:
    """`places`: folders and addresses. `sealers`: public keys by which copies are checked; None: not checked."""

    client: Client
    places: tuple[str, ...]
    sealers: Mapping[str, str] | None
    now_us: Callable[[], int] = lambda: time.time_ns() // 1_000

    def look(self) -> Iterator[Finding]:
        """What an anchor says otherwise; one finding an anchor that agrees."""
        rows = read_seals(self.client)
        for place in self.places:
            try:
                findings = list(self._anchor(anchor_at(place), Path(place), rows))
            except (AnchorError, OSError) as error:
                raise CannotCheck(str(error)) from error
            yield from findings

    def _anchor(self, anchor: Anchor, place: Path, rows: list[SealRow]) -> Iterator[Finding]:
        wrongs, lacking, agreed = [], [], 0
        for row in rows:
            text = anchor.get(name_of_number(row.number))
            if text is None:
                lacking.append(row)
                continue
            problem = self._copy(text, row)
            if problem:
                wrongs.append(wrong(CHECK, row.name, f"{anchor.name}: {problem}"))
            agreed += not problem
        names = _listed(place) if isinstance(anchor, FolderAnchor) else _asked(anchor, rows)
        wrongs += list(self._unknown(anchor, names - {name_of_number(row.number) for row in rows}))
        wrongs += list(self._lacking(anchor, lacking, rows, agreed))
        yield from wrongs
        if not any(finding.result == "wrong" for finding in wrongs):
            yield ok(CHECK, anchor.name, f"{agreed:,} seals are anchored as they are")

    def _copy(self, text: bytes, row: SealRow) -> str:
        """What is wrong with the copy of a seal."""
        try:
            record = record_of_copy(text)
        except ValueError as error:
            return str(error)
        unsigned = self._signed(record)
        if record.value == row.record.value or unsigned:
            return unsigned
        seal = _seal_in(record)
        other = "another record" if seal is None else f"{seal.seal_id.hex()} as seal {seal.number}"
        return f"the copy holds {other}, it is {row.seal_id} in the table: the chain was rewritten"

    def _signed(self, record: SealsRecord) -> str:
        if self.sealers is None or signing.signature_is_valid(self.sealers, record.headers, record.value):
            return ""
        return "the copy is not signed by a known sealer"

    def _unknown(self, anchor: Anchor, names: set[str]) -> Iterator[Finding]:
        """Copies of seals that our table lacks. One that no known sealer signed is nobody's seal: a note."""
        for name in sorted(names, key=_number):
            seal = self._anchored(anchor, name)
            if seal is None:
                yield note(CHECK, name, f"{anchor.name}: holds no seal of a known sealer")
                continue
            said = f"seal {seal.number} is not in the table seals: it was deleted"
            yield wrong(CHECK, f"seal {seal.number}", f"{anchor.name} holds {seal.seal_id.hex()}; {said}")

    def _anchored(self, anchor: Anchor, name: str) -> Seal | None:
        try:
            record = record_of_copy(anchor.get(name) or b"")
        except ValueError:
            return None
        return None if self._signed(record) else _seal_in(record)

    def _lacking(self, anchor: Anchor, lacking: list[SealRow], rows: list[SealRow], agreed: int) -> Iterator[Finding]:
        if not lacking:
            return
        names = listed([row.name for row in lacking])
        newest = [row.number for row in lacking] == [row.number for row in rows[len(rows) - len(lacking) :]]
        late = [row for row in lacking if _sealed_at(row) + ON_THEIR_WAY_US < self.now_us()]
        if newest and not late:
            yield note(CHECK, anchor.name, f"{len(lacking)} newest seals are not anchored yet", lacking=names)
            return
        first = lacking[0]
        what = f"{anchor.name} does not hold it ({first.seal_id}); {len(lacking)} of {len(rows)} seals are not there"
        yield wrong(CHECK, first.name, what, lacking=names)


def _sealed_at(row: SealRow) -> int:
    try:
        return seal_of(row.record).sealed_at_us
    except (CodecError, KeyError, TypeError):
        return 0


def _listed(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.json") if not path.name.startswith(".")}


def _asked(anchor: Anchor, rows: list[SealRow]) -> set[str]:
    """Names after our last seal that an address holds: copied in order, so that the first gap ends them."""
    found: set[str] = set()
    number = rows[-1].number + 1 if rows else 0
    while anchor.get(name_of_number(number)) is not None:
        found.add(name_of_number(number))
        number += 1
        if len(found) == LISTED:
            break  # an address that answers anything
    return found


def _seal_in(record: SealsRecord) -> Seal | None:
    try:
        return seal_of(record)
    except (KeyError, TypeError, CodecError):
        return None


def _number(name: str) -> int:
    text = name.removesuffix(".json")
    return int(text) if text.isdigit() else -1
