"""`focus-validator` in its own environment: `make focus-validator ARGS=FILE.csv`, and `failures(file)` for tests.

A file is held to the rules of FOCUS 1.2 that it ships, without a network, with all that gatemeter supports. Two of its
rules contradict each other, whatever a file says: InvoiceId must be null, and InvoiceId must not be null, each without
the condition that FOCUS gives it. One of them fails always; it is the only failure that is accepted.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ENVIRONMENT = Path(__file__).parents[2] / ".venv-focus"
SUPPORTED = (
    *("ACCOUNT_NAMING_SUPPORTED", "BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED", "NEGOTIATED_PRICING_SUPPORTED"),
    *("MULTIPLE_BILLING_ACCOUNT_TYPES_SUPPORTED", "MULTIPLE_PRICING_CATEGORIES_SUPPORTED", "TAGGING_SUPPORTED"),
    *("MULTIPLE_SUB_ACCOUNT_TYPES_SUPPORTED", "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED", "SUB_ACCOUNT_SUPPORTED"),
    *("UNIT_PRICING_SUPPORTED", "USAGE_MEASUREMENT_SUPPORTED"),
)
CONTRADICTORY = "InvoiceId-C-004-C"
_SUMMARY = re.compile(r"^Total: (\d+) \| Pass: (\d+) \| Fail: (\d+) \| Skipped: (\d+)$", re.MULTILINE)
_FAILED = re.compile(r"^❌ ([A-Za-z]+-[A-Z]-\d+-[A-Z]): (.*)$", re.MULTILINE)
# The one expression for which version 2.2.1 asks for Python 3.12, and the same for 3.11.
_OF_3_12 = """f"'{k.replace('\\"', '\\"\\"')}'" for k in"""
_OF_3_11 = """"'" + k.replace('"', '""') + "'" for k in"""


def prepare(environment: Path) -> None:
    """Rewrites that expression where the environment's Python is older."""
    (package,) = environment.glob("lib/python3.*/site-packages/focus_validator")
    if int(package.parts[-3].removeprefix("python3.")) >= 12:
        return
    place = package / "config_objects" / "focus_to_duckdb_converter.py"
    text = place.read_text("utf-8")
    if _OF_3_11 not in text:
        assert text.count(_OF_3_12) == 1, f"{place}: not the version that is pinned"
        place.write_text(text.replace(_OF_3_12, _OF_3_11), "utf-8")


def validate(file: Path) -> tuple[str, dict[str, str]]:
    """The validator's line of counts, and the rules that failed, with what it says of each."""
    (packages,) = ENVIRONMENT.glob("lib/python3.*/site-packages")
    command = [ENVIRONMENT / "bin" / "focus-validator", "--data-file", file.resolve(), "--validate-version", "1.2"]
    command += ["--block-download", "--show-violations", "--applicability-criteria", ",".join(SUPPORTED)]
    # It looks for its list of currencies below the folder that it is started in.
    done = subprocess.run(command, cwd=packages, capture_output=True, text=True, check=False)
    summary = _SUMMARY.search(done.stdout)
    assert summary, f"focus-validator ended with {done.returncode}: {done.stderr[-3000:]}{done.stdout[-3000:]}"
    found = dict(_FAILED.findall(done.stdout))
    assert len(found) == int(summary[3]), done.stdout
    return summary[0], found


def main() -> int:
    """`--prepare FOLDER`, or a file to validate: 1 where a rule fails."""
    if sys.argv[1:2] == ["--prepare"]:
        prepare(Path(sys.argv[2]))
        return 0
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        print("usage: make focus-validator ARGS=FILE.csv", file=sys.stderr)
        return 2
    summary, found = validate(Path(sys.argv[1]))
    print(summary)
    for rule, said in sorted(found.items()):
        accepted = " (accepted: contradicts InvoiceId-C-005-C)" if rule == CONTRADICTORY else ""
        print(f"{rule}: {said}{accepted}")
    return int(bool(set(found) - {CONTRADICTORY}))


if __name__ == "__main__":
    sys.exit(main())
