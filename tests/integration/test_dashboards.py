"""The Grafana dashboards without Grafana: every panel's query, expanded as the plugin does it, on the real engine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Final

import pytest
import yaml
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSink, connect
from support.clickhouse import ClickHouse
from support.facts import HOUR_US, NOON_US, blank_row, checkpoint, decision, exact, fact
from support.grafana import ALL, FOLDER, Expander, Panel, dashboards, panels

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOPIC: Final = "gatemeter.events"
PANELS: Final = list(panels())
VALUES: Final = {"currency": ["USD"], "tenant": [ALL], "app": [ALL], "severity": [ALL], "state": [ALL]}


def expander(**values: list[str]) -> Expander:
    return Expander(NOON - timedelta(hours=1), NOON + timedelta(hours=2), 60, VALUES | values)


def window(**changes: Any) -> dict[str, Any]:
    row = blank_row("usage_windows") | {"window_start": NOON_US, "topic": TOPIC, "currency": "USD", "revision": 1}
    dimensions = {"tenant_id": "acme", "app_id": "chat", "workload_id": "bot", "provider": "openai", "model": "m"}
    amounts = {"attempts": 2, "input_tokens": 100, "cache_read_tokens": 25, "output_tokens": 20, "charge": 33}
    return row | dimensions | amounts | changes


def epoch(**changes: Any) -> dict[str, Any]:
    row = blank_row("gateway_epochs") | {"gateway_id": "gw", "epoch": "e", "topic": TOPIC, "dropped": 3}
    return row | {"first_sequence": 5, "next_sequence": 9, "heartbeat_sequence": 9} | changes


def fill(sink: ClickHouseSink) -> None:
    """Usage of two tenants in two currencies, a decision, a cache hit, no price for one; trouble in the pipeline."""
    detail = json.dumps({"gateway_kind": "api_gateway", "keys": [{"kid": "gw-1", "valid_from": NOON_US}]})
    crossing = {"budget": "b", "period": "2026-03", "spend": "9.5", "amount": "10", "currency": "USD", "owner": "team"}
    hit = {"gateway_cache": "exact", "avoided_charge": 50, "avoided_provider_cost": 40, "provider_cost": 0}
    seen = {"gateway_id": "agent", "kind": "RESPONSE", "request_id": "s", "reason": "authority", "trace_id": "t"}
    rows: dict[str, list[dict[str, Any]]] = {
        "evidence": [blank_row("evidence") | seen | {"topic": TOPIC, "authority_gateway_id": "gw"}],
        "usage_facts": [
            fact("a", latency_us=900_000, charge=10**12, workload_id="bot"),
            fact("b", 1, status="error", tenant_id="o'brien", charge=3 * 10**12),
            fact("b", 2, tenant_id="o'brien", currency="EUR", charge=5 * 10**12),
            fact("hit", **hit),
            fact("dear", price_status="unpriced", currency="", charge=None, provider_cost=None),
        ],
        "policy_facts": [decision("d", "a", outcome="deny", latency_us=1_500)],
        "usage_windows": [
            window(),
            window(tenant_id="o'brien", currency="EUR"),
            window(policy_id="pii", outcome="deny", model="", provider="", attempts=0, decisions=1),
        ],
        "ingest_batches": [
            checkpoint(next_offset=4, records=4, events_received=2, events_admitted=2, written_at=NOON_US + 10),
            checkpoint(
                events_received=7,
                events_admitted=5,
                events_duplicate=2,
                written_at=NOON_US + 90_000_000,
                posting_floor=NOON_US + HOUR_US,
            ),
        ],
        "gateway_epochs": [epoch()],
        "quarantine": [blank_row("quarantine") | {"topic": TOPIC, "offset": 4, "event_index": -1, "reason": "mac"}],
        "exceptions": [
            blank_row("exceptions") | {"kind": "budget_crossed", "event_index": 80, "detail": json.dumps(crossing)}
        ],
        "operator_log": [blank_row("operator_log") | {"act": "Gateway", "subject": "gw", "detail": detail}],
        "seals": [blank_row("seals") | {"posted_hour": NOON_US - 5 * HOUR_US}],
    }
    for table, those in rows.items():
        sink.write(table, rows_to_arrow(table, those))


def find(client: Client) -> None:
    """Exceptions in each state; their costs are in two currencies, and those of nobody have none."""
    columns = ["exception_id", "kind", "severity", "tenant_id", "owner", "credential_fingerprint", "requests", "cost"]
    rows = [
        ("x1", "burst", "critical", "acme", "team", "fp", 3, Decimal("1.5"), "USD"),
        ("x2", "burst", "high", "acme", "team", "", 2, Decimal("2.5"), "EUR"),
        ("x3", "new_region", "medium", "acme", "", "", 1, None, ""),
        ("x4", "unmetered", "low", "", "platform", "", 1, None, ""),
    ]
    times = ["first_seen_at", "last_seen_at", "found_at"]
    client.insert(
        "found_exceptions", [[*row, NOON, NOON, NOON] for row in rows], column_names=[*columns, "currency", *times]
    )
    acts = [["x2", "acknowledge", NOON, "ops"], ["x3", "resolve", NOON, "ops"]]
    client.insert("exception_acts", acts, column_names=["exception_id", "act", "at", "who"])


@pytest.fixture(scope="module")
def client(clickhouse: ClickHouse) -> Iterator[Client]:
    settings = clickhouse.migrated()
    fill(ClickHouseSink(settings))
    with closing(connect(settings)) as connected:
        find(connected)
        yield connected
    clickhouse.drop(settings)


@dataclass(frozen=True)
class Shown:
    """What a panel's query gave: columns with their types, and rows."""

    types: dict[str, str]
    rows: list[dict[str, Any]]


def run(client: Client, panel: Panel, **values: list[str]) -> Shown:
    found = client.query(expander(**values).expand(panel.sql))
    types = dict(zip(found.column_names, (each.name for each in found.column_types), strict=True))
    return Shown(types, list(found.named_results()))


@pytest.fixture(scope="module")
def shown(client: Client) -> Callable[[Panel], Shown]:
    """What a panel shows of USD and of all tenants; asked once."""
    return cache(lambda panel: run(client, panel))


def is_number(type_name: str) -> bool:
    return re.search(r"\b(U?Int\d+|Float\d+|Decimal)", type_name) is not None


def of(title: str) -> Panel:
    (panel,) = [each for each in PANELS if each.name == title]
    return panel


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.name)
def test_a_panels_query_gives_what_the_panel_shows(shown: Callable[[Panel], Shown], panel: Panel) -> None:
    types, rows = shown(panel).types, shown(panel).rows
    assert panel.columns <= types.keys()
    assert rows, "nothing of the facts is shown"
    numbers = [name for name, kind in types.items() if is_number(kind)]
    if panel.kind != "table":
        assert panel.unit
        assert numbers
    if panel.kind == "stat":
        assert len(rows) == len(types) == 1
    elif panel.kind == "timeseries":
        assert next(iter(types)) == "time"
        assert "DateTime" in types["time"]
        assert len(types) - len(numbers) <= 2, "time and one label"
        assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.name)
def test_money_is_of_one_currency_and_shown_as_an_amount(shown: Callable[[Panel], Shown], panel: Panel) -> None:
    types = shown(panel).types
    units = {name: panel.units.get(name, panel.unit) for name, kind in types.items() if is_number(kind)}
    amounts = {name for name, kind in types.items() if "Decimal" in kind}
    assert {name for name, unit in units.items() if unit == "locale"} == amounts
    if amounts and "currency" not in types:
        assert "currency = ${currency:singlequote}" in panel.sql, "adds across currencies"
        assert "$currency" in panel.title
    elif amounts and "GROUP BY" in panel.sql:
        grouped = panel.sql.rsplit("GROUP BY", 1)[1].split("ORDER BY", 1)[0]
        assert re.search(r"\bcurrency\b", grouped), "adds across currencies"


@pytest.mark.parametrize("title", ["spend: Saved by caches, $currency", "usage_by_workload: By workload and model"])
def test_chosen_tenants_are_those_of_the_panel(client: Client, shown: Callable[[Panel], Shown], title: str) -> None:
    assert "acme" in {row["tenant_id"] for row in shown(of(title)).rows}
    found = run(client, of(title), tenant=["o'brien"]).rows
    assert {row["tenant_id"] for row in found} <= {"o'brien"}


def test_every_panel_of_tenants_asks_for_those_that_are_chosen() -> None:
    for panel in PANELS:
        variables = {each["name"] for each in dashboards()[panel.dashboard]["templating"]["list"]}
        if "tenant" in variables and "budget_crossings" not in panel.sql:
            assert "${tenant:singlequote}" in panel.sql, panel.name


def test_totals_are_those_of_the_chosen_currency(client: Client, shown: Callable[[Panel], Shown]) -> None:
    charge = of("spend: Charge, $currency")
    assert shown(charge).rows == [{"charge": Decimal("4") + exact(33 + 6)}]
    assert run(client, charge, currency=["EUR"]).rows == [{"charge": Decimal(5)}]
    assert run(client, charge, tenant=["o'brien"]).rows == [{"charge": Decimal(3)}]
    rows = shown(of("spend: All currencies")).rows
    assert {row["currency"]: row["charge"] for row in rows} == {
        "": None,
        "EUR": Decimal(5),
        "USD": Decimal("4") + exact(39),
    }
    assert shown(of("spend: Tokens without a price")).rows == [{"unpriced_tokens": 120}]


def test_trouble_of_the_pipeline_is_counted(shown: Callable[[Panel], Shown]) -> None:
    def stat(title: str) -> Any:
        ((value,),) = [row.values() for row in shown(of(f"pipeline_health: {title}")).rows]
        return value

    assert stat("Partitions that do not add up") == 1
    assert stat("Events missing") == 5
    assert stat("Events dropped by gateways") == 3
    assert stat("Refused, open") == 1
    events = shown(of("pipeline_health: Events")).rows
    assert [(row["admitted"], row["duplicate"]) for row in events] == [(2, 0), (3, 2)]


def test_exceptions_are_counted_by_their_state_and_those_of_nobody_are_never_hidden(
    client: Client, shown: Callable[[Panel], Shown]
) -> None:
    def stat(title: str) -> Any:
        ((value,),) = [row.values() for row in shown(of(f"exceptions: {title}")).rows]
        return value

    titles = ("Open: critical", "Open: high", "Open: medium", "Open: low", "Acknowledged", "Resolved")
    assert [stat(title) for title in titles] == [1, 0, 1, 1, 1, 1]  # the budget that was crossed is medium
    cost = {(row["kind"], row["currency"]): row["cost"] for row in shown(of("exceptions: Cost that they touch")).rows}
    assert (cost["burst", "USD"], cost["burst", "EUR"]) == (Decimal("1.5"), Decimal("2.5"))
    rows = run(client, of("exceptions: Exceptions"), tenant=["o'brien"], severity=["low"]).rows
    assert "x4" in {row["exception_id"] for row in rows}
    assert not {"x1", "x2", "x3"} & {row["exception_id"] for row in rows}


def test_variables_offer_what_is_there(client: Client) -> None:
    offered = {
        (name, each["name"]): [value for (value,) in client.query(expander().expand(each["query"])).result_rows]
        for name, document in dashboards().items()
        for each in document["templating"]["list"]
    }
    assert offered["spend", "currency"] == ["EUR", "USD"]
    assert offered["spend", "tenant"] == ["acme", "o'brien"]
    assert offered["usage_by_workload", "app"] == ["chat"]
    for document in dashboards().values():
        known = {each["name"] for each in document["templating"]["list"]}
        for panel in document["panels"]:
            used = set(re.findall(r"\$\{?([a-z]+)\b", json.dumps(panel)))
            assert used <= known, panel["title"]


def test_tables_and_views_of_the_queries_exist(client: Client) -> None:
    query = "SELECT name FROM system.tables WHERE database = currentDatabase()"
    known = {name for (name,) in client.query(query).result_rows}
    for panel in PANELS:
        named = set(re.findall(r"\bFROM (\w+)", panel.sql))
        assert named, panel.name
        assert named <= known, panel.name


def test_identities_are_unique_and_the_data_source_is_the_one_provisioned() -> None:
    found = dashboards()
    assert len({document["uid"] for document in found.values()}) == len(found)
    assert len({document["title"] for document in found.values()}) == len(found)
    source = yaml.safe_load((FOLDER / "provisioning" / "datasources" / "clickhouse.yml").read_text("utf-8"))
    (provisioned,) = source["datasources"]
    named = {"type": provisioned["type"], "uid": provisioned["uid"]}
    for document in found.values():
        assert document["timezone"] == "utc"
        places = [panel["id"] for panel in document["panels"]]
        assert len(set(places)) == len(places)
        for panel in document["panels"]:
            assert panel["datasource"] == panel["targets"][0]["datasource"] == named
        assert all(each["datasource"] == named for each in document["templating"]["list"])


def test_panels_lie_side_by_side() -> None:
    for name, document in dashboards().items():
        taken: set[tuple[int, int]] = set()
        for panel in document["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, f"{name}: {panel['title']}"
            taken |= cells


def test_grafana_gets_the_role_of_analysts_and_no_secret_stands_in_a_file() -> None:
    compose = yaml.safe_load((FOLDER.parents[1] / "docker-compose.yml").read_text("utf-8"))
    services = compose["services"]
    (statements,) = [word for word in services["grafana-user"]["entrypoint"] if "CREATE USER" in word]
    assert re.findall(r"GRANT (\w+)", statements) == ["gatemeter_analyst"]
    assert services["grafana"]["secrets"] == ["grafana_password", "grafana_clickhouse_password"]
    source = (FOLDER / "provisioning" / "datasources" / "clickhouse.yml").read_text("utf-8")
    assert "password: $__file{/run/secrets/grafana_clickhouse_password}" in source
    mounted = {volume.split(":")[0] for volume in services["grafana"]["volumes"]}
    assert {"./deploy/grafana/provisioning", "./deploy/grafana/dashboards"} <= mounted
    assert re.fullmatch(
        r"grafana-clickhouse-datasource@\d+\.\d+\.\d+", services["grafana"]["environment"]["GF_PLUGINS_PREINSTALL_SYNC"]
    )
