"""The files of a pack: index, mapping, a file of SQL and two of results a query, and the manifest with digests."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gatemeter.schemas.evidence_packs import FORMAT, MANIFEST, SIGNATURE, digest, signature_of
from gatemeter.schemas.signing import OperatorKey
from gatemeter.sinks.evidence_pack.answers import Answer, Bound, Period
from gatemeter.sinks.evidence_pack.controls import Controls
from gatemeter.sinks.evidence_pack.index import CLAIM, index_of, name_of
from gatemeter.sinks.spreadsheets import csv_cell


@dataclass(frozen=True, slots=True)
class Found:
    """All that a pack is made of, but the moment and the key."""

    controls: Controls
    period: Period
    bound: Bound | None
    answers: Sequence[Answer]

    def as_json(self) -> dict[str, Any]:
        """The whole pack as one object."""
        return {
            **self.head(),
            "controls": [
                {
                    "framework": each.framework.title,
                    "edition": each.framework.edition,
                    "source": each.framework.source,
                    "label": each.label,
                    "title": each.title,
                    "also": each.also,
                    "shows": each.shows,
                    "queries": list(each.queries),
                }
                for each in self.controls.controls
            ],
            "answers": [_answer(each, self.period) for each in self.answers],
        }

    def head(self) -> dict[str, Any]:
        """What the manifest says first."""
        bound = self.bound and {
            "number": self.bound.number,
            "seal_id": self.bound.seal_id,
            "posted_hour": _text(self.bound.posted_hour),
        }
        return {"format": FORMAT, "claim": CLAIM, "period": self.period.name, "bounded_by_seal": bound}


def files_of(found: Found, made_at: datetime, key: OperatorKey | None) -> dict[str, bytes]:
    """Every file by its path. Equal tables give equal files; only the manifest has `made_at`, and its signature."""
    files = {
        "README.md": index_of(found.controls, found.period, found.bound, found.answers).encode(),
        "controls.toml": found.controls.text.encode(),
    }
    for answer in found.answers:
        name = name_of(answer)
        files[f"queries/{name}.sql"] = _sql(answer, found.period).encode()
        files[f"results/{name}.json"] = _json(_answer(answer, found.period))
        if not answer.problem:
            files[f"results/{name}.csv"] = result_csv(answer).encode()
    rows = {f"results/{name_of(each)}.{kind}": len(each.rows) for each in found.answers for kind in ("csv", "json")}
    entries = {
        name: {"sha256": digest(content), "bytes": len(content)} | ({"rows": rows[name]} if name in rows else {})
        for name, content in sorted(files.items())
    }
    manifest = _json({**found.head(), "made_at": _text(made_at), "files": entries})
    signature = {SIGNATURE: signature_of(key, manifest)} if key else {}
    return {**files, MANIFEST: manifest, **signature}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes a pack whole or not at all. Raises `FileExistsError` where something is there already, `OSError`."""
    if folder.exists():
        raise FileExistsError(f"{folder} is there already")
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    for name, content in files.items():
        place = draft / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    draft.rename(folder)


def _answer(answer: Answer, period: Period) -> dict[str, Any]:
    return {
        "id": answer.query.id,
        "title": answer.query.title,
        "parameters": period.parameters if answer.query.sql else {},
        "sql": answer.query.sql,
        "computed": answer.query.computed,
        "problem": answer.problem,
        "columns": list(answer.columns),
        "rows": [list(row) for row in answer.rows],
    }


def _sql(answer: Answer, period: Period) -> str:
    if answer.query.computed:
        return f"-- {answer.query.title}\n-- Not SQL: a check of gatemeter's own, gatemeter audit --only chain.\n"
    values = "".join(f"SET param_{name} = '{value}';\n" for name, value in period.parameters.items())
    return f"-- {answer.query.title}\n{values}\n{answer.query.sql};\n"


def result_csv(answer: Answer) -> str:
    """The rows of an answer; what a spreadsheet would calculate is text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows([_cell(value) for value in row] for row in answer.rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else csv_cell(value)


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
