"""TOML files that say what the fields of a log are called: read once, and refused in one line that names the entry."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class FieldsError(ValueError):
    """A file of fields that cannot be used. One line: the file, the entry, what is accepted."""


def tables_of(path: Path, accepted: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The tables of a TOML file, by name; empty ones where it has none. Raises `FieldsError`."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FieldsError(f"{path}: must be a TOML file: {error}") from None
    for section, value in values.items():
        if section not in accepted:
            raise FieldsError(f"{path}: must have the tables {' and '.join(accepted)} only, got {section!r}")
        if not isinstance(value, dict):
            raise FieldsError(f"{path}: {section}: must be a table")
    return {section: values.get(section, {}) for section in accepted}


def texts_of(path: Path, section: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Raises `FieldsError` where a value is not text of 1 to 256 characters."""
    for name, value in values.items():
        if not isinstance(value, str) or not 1 <= len(value) <= 256:
            raise FieldsError(f"{path}: {section}: {name}: must be text of 1 to 256 characters")
    return dict(values)
