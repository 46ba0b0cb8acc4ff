"""The sources by name: where each is posted to, and what makes its reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from gatemeter.producers.collector.sources.apisix import ApisixLog
from gatemeter.producers.collector.sources.kong import KongLog
from gatemeter.producers.collector.sources.naming import Naming
from gatemeter.producers.collector.sources.opa import OpaDecisions
from gatemeter.producers.collector.sources.otlp import OtlpSpans
from gatemeter.producers.collector.sources.plain import PlainEvents
from gatemeter.producers.events import Event

Complain = Callable[[str, str], None]


class Reader(Protocol):
    """What the items of one sender mean."""

    def events(self, item: Mapping[str, Any]) -> Sequence[Event]:
        """The events of an item, none where it is no call that is metered. The same item says the same events.

        Raises `BadItem` or `InvalidEvent`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """`path` is where it is posted. `retries_refusals`: it sends again what is not answered by 2xx, good or bad.

    `is_telemetry`: a caller may leave out what it likes, so its gateway must be of a kind that never charges.
    """

    name: str
    path: str
    reader: Callable[[Naming, Complain], Reader]
    retries_refusals: bool
    is_telemetry: bool = False


SOURCES: Final[Mapping[str, Source]] = MappingProxyType(
    {
        source.name: source
        for source in (
            Source("kong", "/kong", KongLog, True),
            Source("apisix", "/apisix", ApisixLog, True),
            Source("opa", "/logs", OpaDecisions, True),
            Source("events", "/v1/events", PlainEvents, False),
            Source("otlp", "/v1/traces", OtlpSpans, True, is_telemetry=True),
        )
    }
)


def source_named(name: str) -> Source:
    """Raises `ValueError`."""
    try:
        return SOURCES[name]
    except KeyError:
        raise ValueError(f"source: must be one of {', '.join(SOURCES)}, got {name!r}") from None
