"""What the modules of this folder share: a provider, and a column of the table a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.conformance import Column
from support.counting_provider import CountingProvider


@pytest.fixture(scope="module")
def provider() -> Iterator[CountingProvider]:
    with CountingProvider() as running:
        yield running


@pytest.fixture(scope="module")
def column(request: pytest.FixtureRequest) -> Column:
    """The column of the hook that the module is named after: `test_asgi.py` has `asgi`."""
    return Column(request.module.__name__.rpartition("test_")[2])
