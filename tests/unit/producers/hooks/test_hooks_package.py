"""What a gateway gets: the public names that the page shows, and the base install only."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import gatemeter.producers.hooks
from gatemeter.producers.hooks import DEFAULT_ENDPOINTS, Endpoint
from gatemeter.producers.usage import UnknownShape

PAGE = Path(__file__).parents[4] / "docs" / "hooks" / "README.md"


def test_the_page_shows_every_public_name_and_no_other() -> None:
    listed = re.search(r"Public names of `gatemeter.producers.hooks`: ([^.]*)\.", PAGE.read_text("utf-8"))
    assert listed is not None
    assert sorted(re.findall(r"`(\w+)`", listed.group(1))) == sorted(gatemeter.producers.hooks.__all__)


def test_the_middleware_needs_the_base_install_only() -> None:
    heavy = ("starlette", "aiohttp", "httpx", "httpx2", "polars", "pyarrow", "yaml", "pydantic", "gatemeter.processors")
    code = f"import sys, gatemeter.producers.hooks.asgi; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_an_endpoint_that_cannot_be_read_is_an_error_at_the_start() -> None:
    with pytest.raises(UnknownShape, match="shape: must be one of"):
        Endpoint("/x", "acme", "chat", "acme_chat")
    with pytest.raises(UnknownShape, match="provider: must be one of"):
        Endpoint("/x", "acme", "chat")
    renamed = DEFAULT_ENDPOINTS[2].with_provider("acme")
    assert (renamed.provider, renamed.shape, renamed.path) == ("acme", "openai_chat", DEFAULT_ENDPOINTS[2].path)
