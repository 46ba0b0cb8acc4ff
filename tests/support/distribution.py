"""Which tests stay in one process where a run has several: those of a file, and of a folder whose session is dear."""

from __future__ import annotations

from typing import Any, Final

import pytest
from xdist.scheduler import LoadFileScheduling

TOGETHER: Final = ("tests/integration/auditing/", "tests/integration/statements/")
"""A fixture of the session there is a whole system with its traffic: made once, and not in each process anew."""


class ByFileOrFolder(LoadFileScheduling):  # type: ignore[misc]
    """`--dist loadfile`, but for the folders of `TOGETHER`."""

    def _split_scope(self, nodeid: str) -> str:
        by_file: str = super()._split_scope(nodeid)
        return next((folder for folder in TOGETHER if nodeid.startswith(folder)), by_file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFileOrFolder | None:
    """None: what `--dist` says."""
    return ByFileOrFolder(config, log) if config.getvalue("dist") == "loadfile" else None
