"""Who pays, by tenant and by registered apps, workloads and credentials; nobody for what contradicts itself."""

from __future__ import annotations

import pytest

from gatemeter.processors.metadata.views import MetadataError, Who
from support.views import ViewBuilder

VIEW = (
    ViewBuilder()
    .plan()
    .tenant("acme", apps=["chat"])
    .tenant("globex")
    .tenant("planless", plan_id="none")
    .identity("app", "search", "acme", offboarded_at_us=500)
    .identity("workload", "spiffe://w", "acme", app_id="chat", expires_at_us=800)
    .identity("credential", "key-a", "acme", app_id="chat", workload_id="spiffe://w", issued_at_us=100)
    .identity("credential", "key-g", "globex")
    .identity("credential", "key-lost", "nobody")
    .identity("credential", "key-moved", "acme")
    .identity("credential", "key-moved", "globex", from_us=300)
    .view()
)


@pytest.mark.parametrize(
    ("who", "attribution", "tenant", "app", "path", "note"),
    [
        (Who("acme", "chat"), "attributed", "acme", "chat", "tenant", ""),
        (Who("", "", "", "key-a", True), "attributed", "acme", "chat", "credential", ""),
        (Who("", "", "spiffe://w", "", True), "attributed", "acme", "chat", "workload", ""),
        (Who("", "any", "", "key-g", True), "attributed", "globex", "any", "credential", ""),
        (Who("acme", "", "", "key-a", True), "attributed", "acme", "chat", "tenant", ""),
        (Who("acme", "search"), "attributed", "acme", "search", "tenant", ""),
        (Who("acme", "chat", "unknown", "unknown", True), "attributed", "acme", "chat", "tenant", ""),
        (
            Who("acme", "search", "", "key-a", True),
            "attributed",
            "acme",
            "search",
            "tenant",
            "credential_of_another_app",
        ),
        (Who("globex", "", "", "key-a", True), "unattributed", "globex", "", "", "credential_of_another_tenant"),
        (Who("globex", "", "spiffe://w"), "unattributed", "globex", "", "", "workload_of_another_tenant"),
        (Who("", "", "spiffe://w", "key-g", True), "unattributed", "", "", "", "workload_of_another_tenant"),
        (Who("", "", "", "key-a", False), "unattributed", "", "", "", "identity_not_verified"),
        (Who("", "chat", "", "unknown", True), "unattributed", "", "chat", "", "no_tenant"),
        (Who("", "", "", "key-lost", True), "unattributed", "", "", "", "unknown_tenant"),
        (Who("nobody", ""), "unattributed", "nobody", "", "", "unknown_tenant"),
        (Who("acme", "", "", "key-a", False), "unattributed", "acme", "", "", "unknown_app"),
        (Who("acme", "other"), "unattributed", "acme", "other", "", "unknown_app"),
        (Who("planless", ""), "unattributed", "planless", "", "", "no_plan"),
    ],
)
def test_who_pays(who: Who, attribution: str, tenant: str, app: str, path: str, note: str) -> None:
    found = VIEW.attribution_of(who, 200)
    assert (found.attribution, found.tenant_id, found.app_id) == (attribution, tenant, app)
    assert (found.path, found.note) == (path, note)


@pytest.mark.parametrize(
    ("at_us", "who", "note"),
    [
        (99, Who("acme", "chat", "", "key-a"), "credential_not_issued"),
        (100, Who("acme", "chat", "", "key-a"), ""),
        (799, Who("acme", "chat", "spiffe://w"), ""),
        (800, Who("acme", "chat", "spiffe://w"), "workload_expired"),
        (499, Who("acme", "search"), ""),
        (500, Who("acme", "search"), "app_offboarded"),
    ],
)
def test_what_should_not_be_in_use_any_more_still_pays_and_is_marked(at_us: int, who: Who, note: str) -> None:
    found = VIEW.attribution_of(who, at_us)
    assert (found.attribution, found.note) == ("attributed", note)


def test_a_credential_that_moved_belongs_to_the_tenant_of_the_time() -> None:
    who = Who("", "chat", "", "key-moved", True)
    assert [VIEW.attribution_of(who, at_us).tenant_id for at_us in (299, 300)] == ["acme", "globex"]


def test_an_identity_cannot_end_before_it_is_issued() -> None:
    with pytest.raises(MetadataError, match="expires_at must not be before issued_at"):
        ViewBuilder().identity("credential", "k", issued_at_us=5, expires_at_us=4)
