"""What users install is the wheel: it holds every root and all data, and passes the tests of the contracts."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("schemas", "producers", "processors", "sinks", "cli")

_ONLY_THE_WHEEL = """
import sys
sys.path[:] = [{wheel!r}] + [entry for entry in sys.path if entry and not any(
    entry.rstrip("/").endswith("/" + root) for root in {roots!r})]
for name in [name for name in sys.modules if name.split(".")[0] == "gatemeter"]:
    del sys.modules[name]
"""


def run(command: list[str], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)], out)
    [built] = out.glob("gatemeter-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    run([*pip, str(wheel)], target)
    return target


def test_the_wheel_holds_all_roots_and_their_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        file.relative_to(ROOT / root).as_posix()
        for root in ROOTS
        for file in (ROOT / root / "gatemeter").rglob("*")
        if file.suffix in {".py", ".avsc", ".sql", ".json"}
    }
    assert wanted - names == set()
    for file in ("azure-llm-2023/code.csv", "azure-llm-2023/conversation.csv", "azure-llm-2023/SOURCE.md"):
        assert f"gatemeter/cli/data/{file}" in names
    assert {"gatemeter/cli/data/tenants.yaml", "gatemeter/cli/data/rates.yaml"} <= names
    assert "gatemeter/__init__.py" not in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_installed_wheel_knows_its_contracts_and_finds_the_demo_data(installed: Path) -> None:
    script = _ONLY_THE_WHEEL.format(wheel=str(installed), roots=ROOTS) + (
        "from gatemeter.schemas import codec\n"
        "from gatemeter.sinks.migrations import migrations\n"
        "from gatemeter.producers import Emitter\n"
        "from gatemeter.cli.demo.trace import data_folder, read_calls\n"
        "from gatemeter.cli.demo.metadata import drafts\n"
        "assert codec.__file__.startswith(sys.path[0]), codec.__file__\n"
        "assert str(data_folder()).startswith(sys.path[0]), data_folder()\n"
        "print(len(codec.ALL), len(migrations(server=True)), len(read_calls(data_folder() / 'azure-llm-2023')))\n"
        "assert drafts(data_folder())\n"
    )
    counts = [int(word) for word in run([sys.executable, "-c", script], installed).split()]
    contracts = ROOT / "schemas" / "gatemeter" / "schemas"
    assert counts == [len(list(contracts.glob("avro/*.avsc"))), len(list(contracts.rglob("*.sql"))), 28_185]


def test_the_tests_of_the_contracts_pass_against_the_installed_wheel(installed: Path) -> None:
    script = _ONLY_THE_WHEEL.format(wheel=str(installed), roots=ROOTS) + (
        "import gatemeter.schemas.codec, gatemeter.producers\n"
        "assert gatemeter.schemas.codec.__file__.startswith(sys.path[0])\n"
        "import pytest\n"
        f"folders = ['{ROOT}/tests/unit/schemas', '{ROOT}/tests/property/schemas', '{ROOT}/tests/unit/producers']\n"
        f"options = ['-q', '-p', 'no:cacheprovider', '--rootdir={ROOT}', '-c', '{ROOT}/pyproject.toml']\n"
        "options.append('--hypothesis-profile=again')\n"
        "sys.exit(pytest.main([*options, *folders]))\n"
    )
    assert " passed" in run([sys.executable, "-c", script], installed)
