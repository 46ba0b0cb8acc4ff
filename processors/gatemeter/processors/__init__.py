"""From Kafka to facts: the Faust app, admission, the fold, metadata and pricing."""

from __future__ import annotations

from gatemeter.schemas.extras import need

need(
    "gatemeter.processors",
    "processors",
    "aiokafka",
    "cramjam",
    "faust",
    "genai_prices",
    "polars_avro",
    "prometheus_client",
    "uvloop",
    "yaml",
)
