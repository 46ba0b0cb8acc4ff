"""The index of a pack, README.md: what it claims and what not, control by control, query by query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, timedelta
from itertools import groupby
from typing import Final

from gatemeter.sinks.evidence_pack.answers import Answer, Bound, Period
from gatemeter.sinks.evidence_pack.controls import Control, Controls

CLAIM: Final = (
    "This pack is evidence, taken from gatemeter's records. It makes no claim of compliance:"
    " whether a control is met is for the auditor to judge."
)
"""The first words of every pack."""


def name_of(answer: Answer) -> str:
    """The name of a query's files, without the ending."""
    return answer.query.id


def index_of(controls: Controls, period: Period, bound: Bound | None, answers: Sequence[Answer]) -> str:
    """README.md of a pack."""
    by_id = {answer.query.id: answer for answer in answers}
    lines = [
        f"# Evidence for {period.name}",
        "",
        CLAIM,
        "",
        f"Period: {_day(period.start)} to {_day(period.end)} UTC, the end not included. {_sealed(bound, period)}",
        "",
        "- `queries/`: what was asked, as SQL that runs as it is; `results/`: what was answered, as CSV for reading",
        "  and as JSON, where an empty text and no value are told apart.",
        "- `controls.toml`: which query speaks to which control. It may be changed, and the pack made anew from it.",
        "- `manifest.json`: the SHA-256 of every file; `gatemeter verify-evidence` checks it, and its signature.",
        "",
        "Titles and editions are quoted as published.",
        "",
    ]
    for _, group in groupby(controls.controls, key=lambda control: control.framework.id):
        lines += _framework(list(group), by_id)
    lines += ["## Queries", "", "| query | what it asks | rows |", "|---|---|---|"]
    lines += [f"| {_links(answer)} | {_cell(answer.query.title)} | {_rows(answer)} |" for answer in answers]
    return "\n".join([*lines, ""])


def _framework(controls: Sequence[Control], answers: dict[str, Answer]) -> Iterator[str]:
    framework = controls[0].framework
    yield from (f"## {framework.title}", "", f"Edition {framework.edition}: <{framework.source}>", "")
    for control in controls:
        yield from (f"### {control.label} {control.title}", "")
        known = f" In our notes: {control.also}." if control.also else ""
        yield from (f"*{framework.title}, edition {framework.edition}.*{known}", "")
        yield from (control.shows, "", "| evidence | rows |", "|---|---|")
        yield from (f"| {_links(answers[query])} | {_rows(answers[query])} |" for query in control.queries)
        yield ""


def _links(answer: Answer) -> str:
    name = name_of(answer)
    results = (
        [f"[JSON](results/{name}.json)"]
        if answer.problem
        else [
            f"[CSV](results/{name}.csv)",
            f"[JSON](results/{name}.json)",
        ]
    )
    return " ".join([f"`{name}`", f"[query](queries/{name}.sql)", *results])


def _rows(answer: Answer) -> str:
    return f"**not answered**: {_cell(answer.problem)}" if answer.problem else f"{len(answer.rows):,}"


def _sealed(bound: Bound | None, period: Period) -> str:
    if bound is None:
        return "No seal bounds it: no hour of it or before it is sealed."
    end = bound.posted_hour.replace(tzinfo=bound.posted_hour.tzinfo or UTC) + timedelta(hours=1)
    whole = "the whole period is sealed" if end >= period.end else "what was posted later is not sealed"
    return f"Bounded by seal {bound.number}, id `{bound.seal_id}`, which ends at {end:%Y-%m-%dT%H:%MZ}: {whole}."


def _day(at: object) -> str:
    return f"{at:%Y-%m-%d}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
