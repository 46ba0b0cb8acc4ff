"""A missing extra fails at import with the command that mends it."""

from __future__ import annotations

import sys
from importlib.util import find_spec


class ExtraMissing(ImportError):
    """A part of gatemeter whose extra is not installed; the text is one line with its cure."""


def need(part: str, extra: str, *modules: str) -> None:
    """Raises `ExtraMissing` where one of `modules` is not installed."""
    for module in modules:
        if not _is_there(module):
            raise ExtraMissing(f'{part} needs {module}, which is not installed: pip install "gatemeter[{extra}]"')


def _is_there(module: str) -> bool:
    if module in sys.modules:  # an imported one may have hidden its spec
        return True
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it would be in
        return False
