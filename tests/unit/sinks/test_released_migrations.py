"""Migrations are frozen once released: a change needs a new file."""

from __future__ import annotations

from gatemeter.sinks.migrations import migrations

RELEASED: dict[str, str] = {
    "0001_tables.sql": "3f3fcd78d67f01c3bc3186f43e4a9a0c",
    "0002_chargeback.sql": "c1090d9508963351367925841d039b38",
    "0003_proof.sql": "819d9601a53d67ef193affc74e3e077c",
    "server/0001_roles.sql": "ea5bbd4c50ba2b3062b54047703a7ab6",
}


def test_no_released_migration_has_changed() -> None:
    found = {file.name: file.digest for file in migrations(server=True)}
    changed = [name for name, digest in RELEASED.items() if found.get(name) != digest]
    assert not changed, f"{changed}: applied by users as it was; undo the change and add a new migration instead"
    assert list(found) == list(RELEASED), "list new migrations here with their digest"


def test_numbers_are_unique_and_in_order() -> None:
    numbers = [file.name.split("_")[0] for file in migrations()]
    assert numbers == [f"{index:04}" for index in range(1, len(numbers) + 1)]


def test_every_file_is_split_into_whole_statements() -> None:
    for file in migrations(server=True):
        for statement in file.statements():
            code = [line for line in statement.splitlines() if line and not line.startswith("--")]
            assert code, f"{file.name}: a statement of comments only"
            assert code[0].split()[0] in ("CREATE", "GRANT", "REVOKE"), f"{file.name}: {code[0]}"
