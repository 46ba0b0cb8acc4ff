"""How the roots hang together: one namespace, imports in one direction, one place that reads the environment."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("schemas", "producers", "processors", "sinks", "cli")
MAY_IMPORT = {
    "schemas": {"schemas"},
    "producers": {"producers", "schemas"},
    "sinks": {"sinks", "schemas"},
    "processors": {"processors", "sinks", "schemas"},
    "cli": set(ROOTS),
}


def sources() -> list[tuple[str, Path]]:
    return [(root, file) for root in ROOTS for file in sorted((ROOT / root).rglob("*.py"))]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def pinned() -> set[str]:
    extras = project()["project"]["optional-dependencies"].values()
    lines = [*project()["project"]["dependencies"], *(line for extra in extras for line in extra)]
    return {line for line in lines if not line.startswith("gatemeter[")}


@pytest.mark.parametrize("root", ROOTS)
def test_no_root_breaks_the_namespace_with_an_init_file(root: str) -> None:
    stray = ROOT / root / "gatemeter" / "__init__.py"
    assert not stray.exists(), f"{stray} would hide the other roots: a namespace package has no __init__.py"
    assert (ROOT / root / "gatemeter" / root / "__init__.py").is_file()


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""


def test_imports_follow_one_direction() -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for root, file in sources()
        for name in imported(file)
        if name.startswith("gatemeter.") and name.split(".")[1] not in MAY_IMPORT[root]
    ]
    assert wrong == []


def test_only_settings_and_the_command_line_read_the_environment() -> None:
    reads = re.compile(r"\bos\.(environ|getenv)\b|\bfrom os import [^\n]*environ")
    found = {
        file.relative_to(ROOT).as_posix()
        for root, file in sources()
        if root != "cli" and file.name != "settings.py" and reads.search(file.read_text("utf-8"))
    }
    assert found == set()


def test_every_file_says_in_its_first_line_what_it_is() -> None:
    bare = [str(file.relative_to(ROOT)) for _, file in sources() if not ast.get_docstring(_parsed(file))]
    assert bare == []


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


def test_every_dependency_is_pinned_exactly() -> None:
    assert [line for line in pinned() if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []


def test_every_dependency_is_explained() -> None:
    explained = set(
        re.findall(r"^\| ([A-Za-z0-9._-]+) \|", (ROOT / "docs" / "dependencies.md").read_text("utf-8"), re.M)
    )
    names = {line.split("==")[0] for line in pinned()}
    assert names - explained == set(), "docs/dependencies.md must say why"
    assert explained - names - {"package"} == set(), "docs/dependencies.md explains what is not used"


def test_the_constraints_pin_the_same_versions_by_hash_and_name_no_index() -> None:
    text = (ROOT / "constraints.txt").read_text("utf-8")
    entries = re.split(r"\n(?=\S)", text.strip())[1:]
    versions = {}
    for entry in entries:
        match = re.match(r"([a-z0-9-]+)==(\S+)", entry)
        assert match, entry
        assert "--hash=sha256:" in entry, f"{match[1]} has no hash"
        versions[match[1]] = match[2]
    for line in pinned():
        name, version = line.split("==")
        assert versions.get(re.sub(r"[._]", "-", name.lower())) == version, f"{line}: run make constraints"
    assert not re.search(r"://|--index|--find-links|/opt/", text)
