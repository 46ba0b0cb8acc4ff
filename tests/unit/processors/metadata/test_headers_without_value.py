"""Kafka headers may have no value: whoever can write to a topic must not be able to stop a worker with one."""

from __future__ import annotations

from typing import Any

import pytest

from gatemeter.processors.admission import Admission, Refused, Stretch, Trust
from gatemeter.processors.fold.types import LogRecord
from gatemeter.processors.metadata.log import MetadataLog
from gatemeter.schemas.codec import CURRENT
from support.views import ViewBuilder

VIEW = ViewBuilder().gateway("gw", "gw-1").view()
BATCH, CONTROL = CURRENT["GatewayBatch"].prefix, CURRENT["Control"].prefix


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (BATCH, (("gm-kid", None),), "no_key_id"),
        (BATCH, (("gm-kid", b"gw-1"), ("gm-mac", None)), "bad_mac"),
        (CONTROL, (("gm-kid", None), ("gm-sig", None)), "bad_signature"),
        (CONTROL, (("gm-kid", b"op-1"), ("gm-sig", None)), "bad_signature"),
    ],
)
def test_a_header_without_value_is_refused(value: bytes, headers: Any, reason: str) -> None:
    admission = Admission("events", 0, MetadataLog({}), Trust({"gw-1": bytes(32)}, {"op-1": "00" * 32}))
    (stretch,) = admission.sort([LogRecord(0, 1, None, value, headers)], VIEW).steps
    assert isinstance(stretch, Stretch)
    (item,) = stretch.items
    assert isinstance(item, Refused)
    assert item.reason == reason
