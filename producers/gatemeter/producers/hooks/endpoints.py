"""Which calls are metered: paths with the provider and operation behind them, and what a request's body asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from gatemeter.producers.usage import SHAPES, UnknownShape, shape_of


@dataclass(frozen=True)
class Endpoint:
    """POST requests whose path `path` (a regular expression) is found in. A group `model` names the model.

    `shape`: how its answers are read; by default that of the provider's operation. Raises `UnknownShape`, `re.error`.
    """

    path: str
    provider: str
    operation: str
    shape: str = ""
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", re.compile(self.path))
        if not self.shape:
            object.__setattr__(self, "shape", shape_of(self.provider, self.operation))
        elif self.shape not in SHAPES:
            raise UnknownShape(f"shape: must be one of {', '.join(SHAPES)}, got {self.shape!r}")

    def with_provider(self, provider: str) -> Endpoint:
        """The same paths and answers at another provider."""
        return Endpoint(self.path, provider, self.operation, self.shape)


_KEPT_PATHS: Final = 1024
_KEPT_PATH_LENGTH: Final = 256
_AZURE: Final = r"/openai/deployments/(?P<model>[^/]+)"
_GEMINI: Final = r"/models/(?P<model>[^/:]+):"
DEFAULT_ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(_AZURE + "/chat/completions$", "azure", "chat"),
    Endpoint(_AZURE + "/embeddings$", "azure", "embeddings"),
    Endpoint("/chat/completions$", "openai", "chat"),
    Endpoint("/messages$", "anthropic", "chat"),
    Endpoint("/responses$", "openai", "responses"),
    Endpoint("/embeddings$", "openai", "embeddings"),
    Endpoint("/completions$", "openai", "completion"),
    Endpoint("/publishers/google" + _GEMINI + "(?:streamG|g)enerateContent$", "vertex", "chat"),
    Endpoint(_GEMINI + "(?:streamG|g)enerateContent$", "google", "chat"),
    Endpoint(_GEMINI + "(?:embedContent|batchEmbedContents)$", "google", "embeddings"),
    Endpoint("/images/(?:generations|edits|variations)$", "openai", "image"),
    Endpoint("/audio/(?:transcriptions|translations)$", "openai", "transcription"),
    Endpoint("/audio/speech$", "openai", "speech"),
)
"""The public paths of OpenAI, Azure OpenAI, Anthropic and Gemini, whatever stands before them."""


class Asked(NamedTuple):
    """What a request asks for. None is unknown."""

    model: str | None = None
    stream: bool | None = None


class _Body(msgspec.Struct):
    model: Any = None
    stream: Any = None


_BODY: Final = msgspec.json.Decoder(_Body)


class Place(NamedTuple):
    """Where a call goes: its endpoint, the model that the path names, and the path as a route.

    `route` is what the endpoint's expression found, with `{model}` for the model: nothing that stands before it (a
    gateway's prefix, an account) is told, and a route is not a route a model.
    """

    endpoint: Endpoint
    model: str | None
    route: str


def found(endpoints: Sequence[Endpoint], path: str) -> Place | None:
    """The place of a path; None for a path that is not metered."""
    plain = path.rstrip("/")
    for endpoint in endpoints:
        match = endpoint.pattern.search(plain)
        if match is not None:
            return _place(endpoint, match)
    return None


class Places:
    """The places of paths, as `found` says; those of the last paths are kept, for most calls go to a few."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = tuple(endpoints)
        self._known: dict[str, Place | None] = {}

    def of(self, path: str) -> Place | None:
        """The place of a path; None for a path that is not metered."""
        try:
            return self._known[path]
        except KeyError:
            pass
        place = found(self._endpoints, path)
        if len(path) <= _KEPT_PATH_LENGTH:
            if len(self._known) >= _KEPT_PATHS:
                self._known.clear()
            self._known[path] = place
        return place


def _place(endpoint: Endpoint, match: re.Match[str]) -> Place:
    model = match.groupdict().get("model")
    if model is None:
        return Place(endpoint, None, match[0])
    start, end = match.span("model")
    return Place(endpoint, model, f"{match.string[match.start() : start]}{{model}}{match.string[end : match.end()]}")


def asked(path: str, path_model: str | None, body: bytes) -> Asked:
    """From the path where it names the model, else from the JSON body; what is not JSON asks for nothing known."""
    said = _read(body)
    stream = said.stream if isinstance(said.stream, bool) else None
    if path_model is not None:
        return Asked(path_model, ":streamGenerateContent" in path or stream)
    return Asked(said.model if isinstance(said.model, str) and said.model else None, stream)


def _read(body: bytes) -> _Body:
    """msgspec skips what is not asked for; Python's reader takes what is not quite JSON (lone surrogates, NaN)."""
    try:
        return _BODY.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return _Body()
    return _Body(value.get("model"), value.get("stream")) if isinstance(value, dict) else _Body()
