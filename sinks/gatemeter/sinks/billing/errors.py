"""What can be wrong with a billing export.

BillingError
├── NotThisFormat    the file is of another format than said
├── FileBroken       the file cannot be read to its end: truncated, no text, too large, empty
└── MappingInvalid   a file of column mappings has an error

`BadRow` is not one of them: it ends no import, the row is listed and the rest goes on.
"""

from __future__ import annotations


class BillingError(Exception):
    """An import that cannot be made; nothing of it counts. The text is one line for the operator."""


class NotThisFormat(BillingError):
    """The file has another format than the one that was said."""


class FileBroken(BillingError):
    """The file cannot be read to its end."""


class MappingInvalid(BillingError):
    """A mapping is wrong; the text names the key and what is accepted."""


class BadRow(Exception):
    """A row that cannot become a line. `field`: what is wrong with it, `reason`: what is accepted, what was found."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason
