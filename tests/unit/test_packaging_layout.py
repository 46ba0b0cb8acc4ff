"""How the roots hang together: one namespace, imports in one direction, one place that reads the environment."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

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


def base() -> dict[str, SpecifierSet]:
    """What a gateway needs: ranges, since it is installed beside the gateway's own pins."""
    return {found.name: found.specifier for found in map(Requirement, project()["project"]["dependencies"])}


def pinned(*extras: str) -> set[str]:
    """The exact pins of these extras; without a name of all but `litellm`, which has an environment of its own."""
    found = project()["project"]["optional-dependencies"]
    chosen = extras or tuple(name for name in found if name != "litellm")
    return {line for name in chosen for line in found[name] if not line.startswith("gatemeter[")}


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


def test_every_dependency_of_an_extra_is_pinned_exactly() -> None:
    lines = pinned() | pinned("litellm")
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z]+\])?==[A-Za-z0-9.]+", line)] == []


def test_the_base_install_has_ranges_with_both_ends() -> None:
    for name, accepted in base().items():
        assert {entry.operator for entry in accepted} == {">=", "<"}, f"{name}: {accepted}"


def test_every_dependency_is_explained() -> None:
    explained = set(
        re.findall(r"^\| ([A-Za-z0-9._-]+) \|", (ROOT / "docs" / "dependencies.md").read_text("utf-8"), re.M)
    )
    names = {line.split("==")[0].split("[")[0] for line in pinned() | pinned("litellm")} | set(base())
    assert names - explained == set(), "docs/dependencies.md must say why"
    assert explained - names - {"package"} == set(), "docs/dependencies.md explains what is not used"


@pytest.mark.parametrize(("file", "extras"), [("constraints.txt", ()), ("constraints-litellm.txt", ("litellm",))])
def test_the_constraints_pin_the_same_versions_by_hash_and_name_no_index(file: str, extras: tuple[str, ...]) -> None:
    text = (ROOT / file).read_text("utf-8")
    entries = re.split(r"\n(?=\S)", text.strip())[1:]
    versions = {}
    for entry in entries:
        match = re.match(r"([a-z0-9-]+)==(\S+)", entry)
        assert match, entry
        assert "--hash=sha256:" in entry, f"{match[1]} has no hash"
        versions[match[1]] = match[2]
    for line in pinned(*extras):
        name, version = line.split("[")[0].split("==")[0], line.split("==")[1]
        assert versions.get(re.sub(r"[._]", "-", name.lower())) == version, f"{line}: run make constraints"
    for name, accepted in base().items():
        assert accepted.contains(versions[name]), f"{file} tests {name} {versions[name]}, which {accepted} leaves out"
    assert not re.search(r"://|--index|--find-links|/opt/", text)
