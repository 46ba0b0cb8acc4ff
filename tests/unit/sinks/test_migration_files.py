"""Migration files: their numbers and their statements."""

from __future__ import annotations

from gatemeter.sinks.migrations import migrations


def test_numbers_are_unique_and_in_order() -> None:
    numbers = [file.name.split("_")[0] for file in migrations()]
    assert numbers == sorted(set(numbers))


def test_every_file_is_split_into_whole_statements() -> None:
    for file in migrations(server=True):
        for statement in file.statements():
            code = [line for line in statement.splitlines() if line and not line.startswith("--")]
            assert code, f"{file.name}: a statement of comments only"
            assert code[0].split()[0] in ("CREATE", "GRANT", "REVOKE"), f"{file.name}: {code[0]}"
