"""The pictures of a statement in docs/, taken anew from the demo's trace: `make statement-picture`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.browser import picture_of

DOCS = Path(__file__).parents[2] / "docs"
GATEMETER = str(Path(sys.executable).with_name("gatemeter"))
TENANT = "retail-banking"


def main() -> None:
    """Runs the demo, hands out the statement of one tenant, and takes its picture on a screen and on paper."""
    demo = subprocess.Popen([GATEMETER, "demo", "--keep"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        variables = _variables(demo)
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "statement.html"
            command = [GATEMETER, "statement", "--tenant", TENANT, "--period", f"{datetime.now(UTC):%Y-%m}"]
            subprocess.run([*command, "--output", page], env=os.environ | variables, check=True)
            (DOCS / "statement.png").write_bytes(picture_of(page, height=1_500))
            (DOCS / "statement-paper.png").write_bytes(picture_of(page, height=983, paper=True))
    finally:
        demo.terminate()
        demo.communicate()


def _variables(demo: subprocess.Popen[str]) -> dict[str, str]:
    """What the file says that the demo names once all is there: where ClickHouse is."""
    assert demo.stderr is not None
    for line in demo.stderr:
        if found := re.search(r"in another shell: \. (\S+/env) ", line):
            listed = subprocess.run(["bash", "-c", f"set -a; . {found[1]}; env -0"], capture_output=True, check=True)
            pairs = listed.stdout.decode().split("\0")
            return dict(pair.split("=", 1) for pair in pairs if pair.startswith("GATEMETER_"))
    raise SystemExit("the demo ended before its statement could be taken")


if __name__ == "__main__":
    main()
