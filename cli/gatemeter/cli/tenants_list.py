"""`gatemeter tenants list` and `show`: the hierarchy from the organisation down to the credential, as published."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.tree import Tree

from gatemeter.cli.clickhouse_options import console
from gatemeter.cli.explain_tables import life_of
from gatemeter.cli.operator_options import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_OPERATOR_KEY,
    Bootstrap,
    KafkaConfig,
    MetadataTopic,
    OperatorKeyFile,
    OperatorKeysFile,
    connect,
    moment,
    one_line_errors,
)
from gatemeter.cli.screen import plain_table
from gatemeter.processors.metadata.entries import MetadataError
from gatemeter.processors.metadata.identities import APP, CREDENTIAL, LIFE, WORKLOAD, Identity
from gatemeter.processors.metadata.views import Tenant, View
from gatemeter.processors.sealing.hours import utc
from gatemeter.schemas.partitions import METADATA_TOPIC

AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
At = Annotated[str, typer.Option("--at", show_default="now", help="As it is at a time, UTC.")]


@one_line_errors
def tenants_list(
    at: At = "",
    as_json: AsJson = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
) -> None:
    """List the tenants in force with what is above them, their plan, and how many identities are registered.

    Example: gatemeter tenants list --at 2026-11-01
    """
    view = connect(bootstrap, operator_key, operator_keys, kafka_config, metadata_topic=metadata_topic).view()
    at_us = _instant(at)
    rows = [_tenant(view, tenant, at_us) for tenant in _tenants(view, at_us)]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    counted = ("apps", "workloads", "credentials")
    table = plain_table("organisation", "business unit", "cost centre", "tenant", "plan", *counted, right=counted)
    above = ("organisation", "business_unit", "cost_centre", "tenant_id", "plan_id")
    for row in sorted(rows, key=lambda row: tuple(row[name] for name in above)):
        counts = (str(row[f"registered_{kind}s"]) for kind in (APP, WORKLOAD, CREDENTIAL))
        table.add_row(*(escape(row[name]) for name in above), *counts)
    console.print(table)


@one_line_errors
def tenants_show(
    tenant: Annotated[str, typer.Argument(help="Tenant id.")],
    at: At = "",
    as_json: AsJson = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
) -> None:
    """Show one tenant: what is above it, its apps, workloads and credentials with owners and dates.

    Example: gatemeter tenants show acme --json
    """
    view = connect(bootstrap, operator_key, operator_keys, kafka_config, metadata_topic=metadata_topic).view()
    at_us = _instant(at)
    found = view.tenant(tenant, at_us)
    if found is None:
        known = ", ".join(each.tenant_id for each in _tenants(view, at_us)) or "none"
        raise MetadataError(f"tenant must be in force at {utc(at_us)} ({known}), got {tenant!r}")
    identities = identities_of(view, tenant, at_us)
    if as_json:
        shown = [_identity(identity, at_us) for identity in identities]
        typer.echo(json.dumps({**_tenant(view, found, at_us), "identities": shown}))
        return
    console.print(_tree(found, identities, at_us))


def identities_of(view: View, tenant_id: str, at_us: int) -> list[Identity]:
    """The registered apps, workloads and credentials of a tenant at an instant, by kind and id."""
    in_force = [
        next((entry for entry in entries if entry.in_force(at_us)), None) for entries in view.identities.values()
    ]
    found = [entry for entry in in_force if entry is not None and entry.tenant_id == tenant_id]
    return sorted(found, key=lambda entry: ((APP, WORKLOAD, CREDENTIAL).index(entry.kind), entry.identity_id))


def _instant(at: str) -> int:
    return moment("--at", at) if at else time.time_ns() // 1_000


def _tenants(view: View, at_us: int) -> list[Tenant]:
    found = [view.tenant(tenant_id, at_us) for tenant_id in sorted(view.tenants)]
    return [tenant for tenant in found if tenant is not None]


def _tenant(view: View, tenant: Tenant, at_us: int) -> dict[str, Any]:
    kinds = [identity.kind for identity in identities_of(view, tenant.tenant_id, at_us)]
    names = ("organisation", "business_unit", "cost_centre", "tenant_id", "name", "plan_id")
    return {
        **{name: getattr(tenant, name) for name in names},
        "apps": sorted(tenant.apps),
        "effective_from": utc(tenant.effective_from_us),
        "effective_to": None if tenant.effective_to_us is None else utc(tenant.effective_to_us),
        **{f"registered_{kind}s": kinds.count(kind) for kind in (APP, WORKLOAD, CREDENTIAL)},
    }


def _identity(identity: Identity, at_us: int) -> dict[str, Any]:
    dates = {name: getattr(identity, f"{name}_us") for name in (*LIFE, "effective_from", "effective_to")}
    names = ("kind", "identity_id", "app_id", "workload_id", "owner")
    return {
        **{name: getattr(identity, name) for name in names},
        **{name: None if value is None else utc(value) for name, value in dates.items()},
        "oddity": identity.oddity(at_us),
    }


def _tree(tenant: Tenant, identities: list[Identity], at_us: int) -> Tree:
    """Credentials below their workload, else their app, else the tenant; so workloads."""
    above = (tenant.organisation, tenant.business_unit, tenant.cost_centre)
    path = " → ".join(escape(name) for name in (*above, f"{tenant.tenant_id} ({tenant.name})") if name)
    apps = ", ".join(sorted(tenant.apps)) or "any app"
    tree = Tree(f"{path}, plan {escape(tenant.plan_id)}, {escape(apps)}")
    branches: dict[tuple[str, str], Tree] = {}
    for identity in identities:
        parents = ((WORKLOAD, identity.workload_id), (APP, identity.app_id))
        branch = next((branches[parent] for parent in parents if parent in branches), tree)
        oddity = identity.oddity(at_us)
        shown = f"{identity.kind} {escape(identity.identity_id)}: {escape(', '.join(_told(identity)))}"
        branches[identity.kind, identity.identity_id] = branch.add(
            shown + (f" [bold]{oddity}[/bold]" if oddity else "")
        )
    return tree


def _told(identity: Identity) -> Iterator[str]:
    yield f"owner {identity.owner}"
    yield from life_of(identity)
