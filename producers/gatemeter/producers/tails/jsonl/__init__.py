"""Application logs in JSON lines: evidence of the calls that they tell (docs/hooks/jsonl.md)."""

from __future__ import annotations

from gatemeter.producers.tails.fields import FieldsError
from gatemeter.producers.tails.jsonl.fields import JsonlFields
from gatemeter.producers.tails.jsonl.reading import JsonLog

__all__ = ["FieldsError", "JsonLog", "JsonlFields"]
