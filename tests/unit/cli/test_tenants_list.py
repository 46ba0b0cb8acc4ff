"""The hierarchy for people: what is registered hangs below what it belongs to, with owner and dates."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer
from rich.console import Console

from gatemeter.cli import tenants_list
from gatemeter.processors.metadata.entries import Tenant
from gatemeter.processors.metadata.views import View
from support.views import ViewBuilder

DAY_US = 86_400_000_000
VIEW = (
    ViewBuilder()
    .plan()
    .add(Tenant("acme", "standard", "Acme", "cc-1", "Claims", "Acme Group", frozenset({"chat"})))
    .identity("app", "chat", owner="chat-team")
    .identity("workload", "spiffe://w", app_id="chat", owner="chat-team", expires_at_us=2 * DAY_US)
    .identity("credential", "9f2c", workload_id="spiffe://w", owner="kim", issued_at_us=0, to_us=5 * DAY_US)
    .identity("credential", "other", "globex")
    .view()
)


class Connection:
    def view(self) -> View:
        return VIEW


@pytest.fixture(autouse=True)
def connected(monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setattr(tenants_list, "connect", lambda *_, **__: Connection())
    console = Console(width=160, record=True)
    monkeypatch.setattr(tenants_list, "console", console)
    return console


def test_a_tenant_is_shown_from_the_organisation_to_the_credential(connected: Console) -> None:
    tenants_list.tenants_show("acme", at="1970-01-04")
    shown = connected.export_text()
    assert "Acme Group → Claims → cc-1 → acme (Acme), plan standard, chat" in shown
    lines = [line for line in shown.splitlines() if line.strip()]
    assert [line.find(word) for line, word in zip(lines[1:], ("app", "workload", "credential"), strict=True)] == [
        4,
        8,
        12,
    ]
    assert "workload spiffe://w: owner chat-team, expires 1970-01-03T00:00:00Z expired" in shown
    assert "other" not in shown


def test_as_json_the_dates_are_times_and_what_is_not_known_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    tenants_list.tenants_show("acme", at="1970-01-02", as_json=True)
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (shown["organisation"], shown["registered_credentials"]) == ("Acme Group", 1)
    key = shown["identities"][2]
    assert (key["kind"], key["owner"], key["workload_id"], key["oddity"]) == ("credential", "kim", "spiffe://w", "")
    assert (key["issued_at"], key["rotated_at"], key["effective_to"]) == (
        "1970-01-01T00:00:00Z",
        None,
        "1970-01-06T00:00:00Z",
    )


def test_the_list_counts_what_is_in_force(connected: Console, capsys: pytest.CaptureFixture[str]) -> None:
    tenants_list.tenants_list(at="1970-01-06", as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["registered_apps"], row["registered_workloads"], row["registered_credentials"]) == (1, 1, 0)
    tenants_list.tenants_list(at="1970-01-02")
    assert "Acme Group" in connected.export_text()


def test_a_tenant_that_is_not_in_force_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        tenants_list.tenants_show("nobody", at="1970-01-02")
    assert "tenant must be in force at 1970-01-02T00:00:00Z (acme), got 'nobody'" in capsys.readouterr().err
