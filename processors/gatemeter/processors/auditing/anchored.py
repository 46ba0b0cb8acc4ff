"""Anchors against the chain: copies of seals that whoever rewrites our tables and topics cannot reach.

Every seal must be in every anchor as it was signed, but for the newest ones, which may be on their way. A folder is
listed, so a seal that only the anchor knows shows that ours was deleted or replaced. An address cannot be listed: there
the ids that rows of `seal_leaves` and `ledger` still name are asked for too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.auditing.chain import SealRow, read_seals
from gatemeter.processors.sealing.anchors import Anchor, AnchorError, FolderAnchor, anchor_at, record_of_copy
from gatemeter.processors.sealing.chain import Seal, SealsRecord, seal_of
from gatemeter.schemas import signing
from gatemeter.schemas.codec import CodecError
from gatemeter.schemas.seals import HOUR_US
from gatemeter.sinks.reports.audit import CannotCheck, Finding, listed, note, ok, query_rows, wrong

CHECK: Final = "anchors"
ON_THEIR_WAY_US: Final = 3_600_000_000
"""How long after its time a seal may still be missing in an anchor."""

_STAGED: Final = """
SELECT DISTINCT seal_id, toUnixTimestamp64Micro(posted_hour) AS hour_us
FROM (SELECT seal_id, posted_hour FROM ledger UNION DISTINCT SELECT seal_id, posted_hour FROM seal_leaves)
"""


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
        staged = {
            str(row["seal_id"]): int(row["hour_us"]) for row in query_rows(self.client, "read ids of seals", _STAGED)
        }
        for place in self.places:
            anchor = anchor_at(place)
            try:
                findings = list(self._anchor(anchor, Path(place), rows, staged))
            except (AnchorError, OSError) as error:
                raise CannotCheck(str(error)) from error
            yield from findings

    def _anchor(self, anchor: Anchor, place: Path, rows: list[SealRow], staged: Mapping[str, int]) -> Iterator[Finding]:
        wrongs, lacking, agreed = [], [], 0
        for row in rows:
            text = anchor.get(f"{row.number}-{row.seal_id}.json")
            if text is None:
                lacking.append(row)
                continue
            problem = self._copy(text, row)
            if problem:
                wrongs.append(wrong(CHECK, row.name, f"{anchor.name}: {problem}"))
            agreed += not problem
        names = _listed(place) if isinstance(anchor, FolderAnchor) else _asked(anchor, rows, staged)
        ours = {f"{row.number}-{row.seal_id}.json" for row in rows}
        wrongs += list(self._unknown(anchor, names - ours, rows))
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
        if record.value != row.record.value:
            return "the copy holds another record"
        return self._signed(record)

    def _signed(self, record: SealsRecord) -> str:
        if self.sealers is None or signing.signature_is_valid(self.sealers, record.headers, record.value):
            return ""
        return "the copy is not signed by a known sealer"

    def _unknown(self, anchor: Anchor, names: set[str], rows: list[SealRow]) -> Iterator[Finding]:
        """Copies of seals that are not in our chain. One that no known sealer signed is nobody's seal: a note."""
        held = {row.number: row for row in rows}
        for name in sorted(names, key=_number):
            seal = self._anchored(anchor, name)
            if seal is None:
                yield note(CHECK, name, f"{anchor.name}: holds no seal of a known sealer")
                continue
            ours = held.get(seal.number)
            said = "is not in the table seals: it was deleted" if ours is None else f"is {ours.seal_id} in the table"
            what = f"{anchor.name} holds {seal.seal_id.hex()}; seal {seal.number} {said}: the chain was rewritten"
            yield wrong(CHECK, f"seal {seal.number}", what if ours else what.removesuffix(": the chain was rewritten"))

    def _anchored(self, anchor: Anchor, name: str) -> Seal | None:
        text = anchor.get(name)
        try:
            record = record_of_copy(text or b"")
            return None if self._signed(record) else seal_of(record)
        except (ValueError, KeyError, TypeError, CodecError):
            return None

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
    return {path.name for path in folder.glob("*-*.json") if not path.name.startswith(".")}


def _asked(anchor: Anchor, rows: list[SealRow], staged: Mapping[str, int]) -> set[str]:
    """Names that an address may hold although the table does not know them: by the ids that other tables name.

    Hours are sealed one after the other, so the hour says the number.
    """
    known = {row.seal_id for row in rows}
    first_us = min(staged.values(), default=0)
    names = (
        f"{(hour_us - first_us) // HOUR_US}-{seal_id}.json"
        for seal_id, hour_us in staged.items()
        if seal_id not in known
    )
    return {name for name in names if anchor.get(name) is not None}


def _number(name: str) -> int:
    text = name.split("-", 1)[0]
    return int(text) if text.isdigit() else -1
