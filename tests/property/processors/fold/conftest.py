"""The profile `long`: `pytest tests/property/processors/fold --hypothesis-profile=long` runs about an hour."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("long", max_examples=20_000, deadline=None)
