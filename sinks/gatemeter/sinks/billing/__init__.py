"""What providers say they bill: exports of every kind become lines of one kind (docs/billing.md)."""

from gatemeter.sinks.billing.errors import BadRow, BillingError, FileBroken, MappingInvalid, NotThisFormat
from gatemeter.sinks.billing.formats import FORMATS, Format
from gatemeter.sinks.billing.importing import Identity, LineSink, Order, Outcome, identify, read
from gatemeter.sinks.billing.lines import BillingLine, Covered, Rejected
from gatemeter.sinks.billing.writing import BillingWriter

__all__ = [
    "FORMATS",
    "BadRow",
    "BillingError",
    "BillingLine",
    "BillingWriter",
    "Covered",
    "FileBroken",
    "Format",
    "Identity",
    "LineSink",
    "MappingInvalid",
    "NotThisFormat",
    "Order",
    "Outcome",
    "Rejected",
    "identify",
    "read",
]
