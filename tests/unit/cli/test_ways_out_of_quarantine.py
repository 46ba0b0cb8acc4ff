"""Each reason of refusal has a way out, in the commands and in the handbook."""

from __future__ import annotations

import re
from pathlib import Path

import gatemeter.processors.admission
import gatemeter.processors.fold.events
import gatemeter.processors.fold.plain
import gatemeter.schemas.codec
from gatemeter.cli.quarantine_ways import WAYS, way_out

SOURCES = (
    gatemeter.processors.admission,
    gatemeter.processors.fold.events,
    gatemeter.processors.fold.plain,
    gatemeter.schemas.codec,
)
GIVEN = re.compile(
    r'(?:Refused\((?:self\._records\[i\]|record), |CodecError\(|return )"([a-z_]+)", |^ +"(future)",$', re.M
)
NEVER_WRITTEN = {"refused"}
"""What a replay gives for what was refused when it was first folded."""


def reasons() -> set[str]:
    texts = [Path(str(module.__file__)).read_text("utf-8") for module in SOURCES]
    return {name for text in texts for found in GIVEN.findall(text) for name in found if name} - NEVER_WRITTEN


def test_every_reason_of_the_code_has_a_way_out() -> None:
    assert reasons() == set(WAYS)


def test_the_way_out_ends_with_a_command() -> None:
    for reason in WAYS:
        assert f"; then: gatemeter quarantine {'' if 'replay' in way_out(reason) else 'discard'}" in way_out(reason)
        assert f"--refused-for {reason}" in way_out(reason)


def test_the_handbook_names_every_reason() -> None:
    handbook = (Path(__file__).parents[3] / "docs" / "operating.md").read_text("utf-8")
    table = handbook[handbook.index("| reason | what to mend") : handbook.index("**Replay** appends")]
    assert set(
        re.findall(r"`([a-z_]+)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
    ) == set(WAYS)
