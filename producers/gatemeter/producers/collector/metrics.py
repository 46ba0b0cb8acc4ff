"""The page `/metrics` of the collector, as Prometheus reads it. It names senders and gateways, never what they sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from gatemeter.producers.collector.intake import Taken
from gatemeter.producers.emitter import Emitter
from gatemeter.schemas.extras import need

need("gatemeter.producers.collector", "collector", "aiohttp", "prometheus_client")

from prometheus_client import CollectorRegistry, Counter  # noqa: E402  what it needs is checked first
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric  # noqa: E402
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest  # noqa: E402
from prometheus_client.registry import Collector as Reads  # noqa: E402

_ITEMS: Final = "Items of requests: accepted are in the spool, ignored are nothing that is metered."


class CollectorMetrics:
    """Counters of requests and items, and the emitters' own figures as they are when the page is asked for."""

    content_type: Final = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, emitters: Mapping[str, Emitter]) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "gatemeter_collector_requests", "Requests.", ["source", "status"], registry=self._registry
        )
        self.items = Counter("gatemeter_collector_items", _ITEMS, ["sender", "outcome"], registry=self._registry)
        self.fields_left_out = Counter(
            "gatemeter_collector_fields_left_out", "Fields that were wrong beside good ones.", registry=self._registry
        )
        self._registry.register(_Emitters(emitters))

    def count(self, source: str, sender: str, status: int, taken: Taken) -> None:
        """A request that was answered with what was taken of it."""
        self.requests.labels(source, str(status)).inc()
        counts = {"accepted": taken.accepted, "ignored": taken.ignored, "refused": len(taken.refused)}
        for outcome, count in counts.items():
            self.items.labels(sender, outcome).inc(count)

    def page(self) -> bytes:
        """In Prometheus' text form."""
        return generate_latest(self._registry)


class _Emitters(Reads):
    def __init__(self, emitters: Mapping[str, Emitter]) -> None:
        self._emitters = emitters

    def collect(self) -> Iterator[Metric]:
        free = GaugeMetricFamily("gatemeter_spool_free_bytes", "Room in the spool.", labels=["gateway"])
        waiting = GaugeMetricFamily("gatemeter_spooled_events", "Not in Kafka yet.", labels=["gateway"])
        emitted = CounterMetricFamily("gatemeter_events_emitted", "In the spool or delivered.", labels=["gateway"])
        dropped = CounterMetricFamily("gatemeter_events_dropped", "Refused by the emitter.", labels=["gateway"])
        for gateway_id, emitter in self._emitters.items():
            counters = emitter.counters()
            free.add_metric([gateway_id], emitter.free_bytes())
            waiting.add_metric([gateway_id], counters.spooled)
            emitted.add_metric([gateway_id], counters.emitted)
            dropped.add_metric([gateway_id], counters.dropped + counters.invalid)
        yield from (free, waiting, emitted, dropped)
