"""Addresses of webhooks and the file of their header: what is accepted, and that no secret is ever said."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatemeter.sinks.exceptions.endpoint import Webhook, WebhookError, webhook_of


@pytest.mark.parametrize(
    "url", ["https://hooks.example/x", "http://127.0.0.1:8080/", "http://[::1]:1/", "http://localhost/"]
)
def test_https_and_loopback_are_accepted(url: str) -> None:
    assert Webhook(url).url == url


@pytest.mark.parametrize(
    "url", ["http://hooks.example/x", "ftp://h/", "hooks.example", "http://10.0.0.1/", "https://h:port/", "https:///x"]
)
def test_others_are_refused(url: str) -> None:
    with pytest.raises(WebhookError, match="must be https://HOST"):
        Webhook(url)


def test_the_header_comes_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "header"
    file.write_text("Authorization: Bearer planted-secret\n")
    webhook = webhook_of("https://hooks.example/planted-path", file)
    assert webhook is not None and webhook.header == ("Authorization", "Bearer planted-secret")
    assert "planted" not in f"{webhook!r} {webhook.place} {webhook.digest}"


@pytest.mark.parametrize("text", ["planted-secret", "Bad name: planted-secret", "X:", "A: b\nC: planted-secret"])
def test_another_form_of_the_file_is_an_error_that_does_not_repeat_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "header"
    file.write_text(text)
    with pytest.raises(WebhookError, match="one line, Name: value") as caught:
        webhook_of("https://hooks.example/", file)
    assert "planted" not in str(caught.value)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(WebhookError, match="without user and password") as caught:
        Webhook("https://user:planted-secret@hooks.example/")
    assert "planted" not in str(caught.value)


def test_a_header_needs_a_webhook(tmp_path: Path) -> None:
    assert webhook_of("", None) is None
    with pytest.raises(WebhookError, match="must not be given without a webhook"):
        webhook_of("", tmp_path / "header")
