"""What senders of the collector write, and the events that it means; a file a product."""

from __future__ import annotations

from gatemeter.producers.collector.sources.naming import Naming, NamingError, minted_request_id
from gatemeter.producers.collector.sources.port import SOURCES, Source, source_named

__all__ = ["SOURCES", "Naming", "NamingError", "Source", "minted_request_id", "source_named"]
