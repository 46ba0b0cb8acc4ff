"""Where a webhook is and the header that it wants; imports nothing of ClickHouse: settings are checked before it."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit


class WebhookError(ValueError):
    """An address or a file of a header that is not accepted; the text names which and what is. It holds no secret."""


@dataclass(frozen=True)
class Webhook:
    """Where to post. `header`: a name and a value that may be a secret. Checks itself; raises `WebhookError`."""

    url: str = field(repr=False)
    header: tuple[str, str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            host, good = parts.hostname or "", parts.port != 0
        except ValueError:
            raise WebhookError("webhook: must be https://HOST…, or http:// of a loopback address") from None
        if parts.username is not None or parts.password is not None:
            raise WebhookError(
                "webhook: must be an address without user and password; --webhook-header-file has a header"
            )
        if not (good and host and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))):
            raise WebhookError("webhook: must be https://HOST…, or http:// of a loopback address")

    @property
    def digest(self) -> str:
        """Names the webhook in the table of notices; an address may itself be a secret."""
        return hashlib.blake2b(self.url.encode(), digest_size=16).hexdigest()

    @property
    def place(self) -> str:
        """For logs: the host alone."""
        return urlsplit(self.url).hostname or ""


def webhook_of(url: str, header_file: Path | None) -> Webhook | None:
    """The webhook of two settings; None without an address. Raises `WebhookError`."""
    if not url:
        if header_file is not None:
            raise WebhookError("webhook-header-file: must not be given without a webhook")
        return None
    return Webhook(url, _header(header_file) if header_file is not None else None)


def _header(path: Path) -> tuple[str, str]:
    accepted = "webhook-header-file: must be a readable text file with one line, Name: value"
    try:
        line = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise WebhookError(accepted) from None
    name, colon, value = line.partition(":")
    if not (colon and name.replace("-", "").isalnum() and name.isascii() and value.strip()):
        raise WebhookError(accepted)
    if not (value.isprintable() and value.isascii()):
        raise WebhookError(accepted)
    return name, value.strip()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
