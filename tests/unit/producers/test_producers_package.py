"""What a gateway gets: the public names that the page shows, and nothing heavier than the base install."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import gatemeter.producers

PAGE = Path(__file__).parents[3] / "docs" / "producers.md"
HEAVY = (
    "polars",
    "pyarrow",
    "faust",
    "aiokafka",
    "clickhouse_connect",
    "chdb",
    "yaml",
    "typer",
    "gatemeter.processors",
)


def test_the_page_shows_every_public_name_and_no_other() -> None:
    listed = re.search(r"Public names of `gatemeter.producers`: ([^.]*)\.", PAGE.read_text("utf-8"))
    assert listed is not None
    assert sorted(re.findall(r"`(\w+)`", listed.group(1))) == sorted(gatemeter.producers.__all__)
    assert all(hasattr(gatemeter.producers, name) for name in gatemeter.producers.__all__)


def test_importing_the_emitter_needs_the_base_install_only() -> None:
    code = f"import sys, gatemeter.producers; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
