"""The values of a row by name: nested ones by dots (`amount.value`, `product.servicename`), as text or as they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from gatemeter.sinks.billing.errors import BadRow

Values = Mapping[str, Any]

MOST_RAW: Final = 16_000
"""Characters of a row that are kept beside its lines; what is longer is cut, and ends with '…'."""


def lookup(values: Values, path: str) -> Any:
    """The value of that name; a part of a nested one by its path, also where a CSV file nests by JSON text, or None."""
    found = values.get(path)
    if found is not None or "." not in path:
        return found
    head, rest = path.split(".", 1)
    nested = opened(values.get(head))
    return lookup(nested, rest) if isinstance(nested, dict) else None


def opened(value: Any) -> Any:
    """A value; text that is a JSON object is that object, and pairs of a Parquet map are a dictionary."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            return json.loads(value, parse_float=Decimal)
        except (ValueError, RecursionError):
            return value
    if isinstance(value, list) and value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        return {str(name): item for name, item in value}
    return value


def text_of(value: Any) -> str:
    """A value as text; None is ''."""
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}" if value.is_finite() and -40 < value.adjusted() < 40 else str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, dict | list | tuple):
        return json_of(value)
    return str(value)


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=text_of)


def json_of(value: Any) -> str:
    """Plain data as compact JSON, in the order that it has."""
    return _ENCODER.encode(value)


def raw_of(values: Values) -> str:
    """A row as it stays beside its lines: JSON without what is empty."""
    text = json_of({name: opened(value) for name, value in values.items() if value is not None and value != ""})
    return text if len(text) <= MOST_RAW else text[: MOST_RAW - 1] + "…"


def tags_of(values: Values, paths: Iterable[str], more: Mapping[str, str]) -> str:
    """What those names hold, as one JSON object sorted by name; '{}' is ''."""
    tags: dict[str, str] = {}
    for path in paths:
        found = opened(lookup(values, path))
        if isinstance(found, dict):
            tags |= {str(name): text_of(item) for name, item in found.items() if text_of(item)}
        elif isinstance(found, list):  # Google's labels: [{"key": …, "value": …}]
            pairs = [item for item in found if isinstance(item, dict) and "key" in item]
            tags |= {text_of(item["key"]): text_of(item.get("value")) for item in pairs}
        elif text_of(found):
            tags[path] = text_of(found)
    tags |= {name: item for name, item in more.items() if item}
    return json_of(dict(sorted(tags.items()))) if tags else ""


def check_text(values: Values) -> None:
    """Raises `BadRow` where a text is not UTF-8."""
    for name, value in values.items():
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise BadRow(name, "must be UTF-8 text") from None
