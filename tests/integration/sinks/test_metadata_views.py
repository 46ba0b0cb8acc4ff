"""Copies of the metadata for joins: what the records in force say, typed, each version once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.metadata.entries import AttestationKey, Gateway, GatewayKey
from gatemeter.processors.metadata.gateways import draft_of
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.processors.pricing.ratesfile import build_card
from gatemeter.schemas.codec import decode, encode
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from support.facts import NOON_US, blank_row, fact

EXAMPLES = Path(__file__).parents[3] / "examples"
TENANTS = EXAMPLES / "tenants.yaml"


class Published:
    """Metadata that came into force, as the fold of partition 0 writes it."""

    def __init__(self, settings: ClickHouseSettings, client: Client) -> None:
        self.sink = ClickHouseSink(settings)
        self.client = client
        self.offset = 0

    def put(self, *drafts: Draft) -> None:
        self.sink.write("operator_log", rows_to_arrow("operator_log", [self._row(draft) for draft in drafts]))

    def _row(self, draft: Draft) -> Mapping[str, Any]:
        record = decode(encode(draft.name, draft.datum))
        self.offset += 1
        detail = json.dumps(record.datum, sort_keys=True, default=bytes.hex)
        subject = draft.identity[1]
        row = {"topic": "gatemeter.metadata", "offset": self.offset, "at": NOON_US, "act": draft.name}
        return blank_row("operator_log") | row | {"subject": subject, "detail": detail}

    def rows(self, sql: str) -> list[dict[str, Any]]:
        return list(self.client.query(sql).named_results())


@pytest.fixture
def published(clickhouse_database: ClickHouseSettings, clickhouse_client: Client) -> Published:
    return Published(clickhouse_database, clickhouse_client)


def test_the_example_file_is_rows_with_types(published: Published) -> None:
    published.put(*read_tenants_file(TENANTS))
    (bank,) = published.rows("SELECT * FROM tenants WHERE tenant_id = 'retail-banking'")
    assert (bank["organisation"], bank["cost_centre"], len(bank["apps"])) == ("Northwind Bank", "CC-4100", 3)
    assert (bank["effective_from"], bank["effective_to"]) == (datetime(2024, 1, 1), None)
    plans = published.rows("SELECT plan_id, markup_percent, accept_claimed_identity FROM charge_plans ORDER BY plan_id")
    assert plans[1]["markup_percent"] == Decimal("12.5000")
    assert [plan["accept_claimed_identity"] for plan in plans] == [True, True, False, True]
    (price,) = published.rows(
        "SELECT per_decision, per_unit, currency FROM policy_prices WHERE policy_id = 'pii-redaction'"
    )
    assert price == {"per_decision": Decimal("0.0001"), "per_unit": Decimal("0.00000002"), "currency": "USD"}
    (key,) = published.rows("SELECT * FROM credentials")
    assert (key["credential_fingerprint"], key["owner"]) == ("7d0e4f2a9c51b836", "mobile-team")
    assert (key["expires_at"], key["offboarded_at"]) == (datetime(2027, 1, 15), None)
    assert [row["app_id"] for row in published.rows("SELECT app_id FROM apps")] == ["mobile-assistant"]
    assert [row["app_id"] for row in published.rows("SELECT app_id FROM workloads")] == ["mobile-assistant"]


def test_a_later_record_of_the_same_start_replaces_and_another_start_stands_beside(published: Published) -> None:
    tenant = next(draft for draft in read_tenants_file(TENANTS) if draft.name == "Tenant")
    moved = {**tenant.datum, "effective_from": NOON_US, "cost_centre": "CC-2"}
    published.put(tenant, Draft("Tenant", {**tenant.datum, "cost_centre": "CC-1"}), Draft("Tenant", moved))
    found = published.rows("SELECT cost_centre, metadata_offset FROM tenants ORDER BY effective_from")
    assert [tuple(row.values()) for row in found] == [("CC-1", 2), ("CC-2", 3)]


def test_facts_join_the_names_of_their_time(published: Published) -> None:
    tenant = next(draft for draft in read_tenants_file(TENANTS) if draft.name == "Tenant")
    later = {**tenant.datum, "effective_from": NOON_US + 5, "name": "Renamed"}
    published.put(tenant, Draft("Tenant", later))
    who = {"tenant_id": "retail-banking"}
    rows = [fact("r1", **who, request_started_at=NOON_US), fact("r2", **who, request_started_at=NOON_US + 5)]
    published.sink.write("usage_facts", rows_to_arrow("usage_facts", rows))
    joined = published.rows(
        "SELECT request_id, t.name AS name FROM attempts AS a ASOF LEFT JOIN tenants AS t "
        "ON a.tenant_id = t.tenant_id AND a.request_started_at >= t.effective_from ORDER BY request_id"
    )
    assert [row["name"] for row in joined] == ["Retail Banking", "Renamed"]


def test_a_full_rate_card_is_lines_with_exact_prices(published: Published) -> None:
    card = Draft("RateCard", build_card(EXAMPLES / "rates.yaml").datum)
    published.put(card)
    (head,) = published.rows("SELECT card_id, content_hash, lines, currency FROM rate_cards")
    assert head == {name: card.datum[name] for name in ("card_id", "content_hash", "currency")} | {
        "lines": len(card.datum["rates"])
    }
    (total,) = published.rows(
        "SELECT count() AS lines, sum(list_price) AS list, sum(provider_price) AS paid FROM rate_lines"
    )
    assert total["lines"] == sum(len(rate["provider_pico"]) for rate in card.datum["rates"])
    pico = {
        name: sum(sum(rate[name].values()) for rate in card.datum["rates"]) for name in ("list_pico", "provider_pico")
    }
    assert (total["list"].scaleb(12), total["paid"].scaleb(12)) == (pico["list_pico"], pico["provider_pico"])


def test_gateways_are_their_keys_and_no_secret(published: Published) -> None:
    keys = {"gw-1": GatewayKey("gw", "inference_proxy", 5, 9), "gw-2": GatewayKey("gw", "inference_proxy", 7)}
    published.put(draft_of(Gateway("gw", keys, {"att": AttestationKey("ab" * 32, 1)}), "inference_proxy"))
    found = published.rows(
        "SELECT gateway_kind, signs, kid, public_key, valid_to IS NULL AS open FROM gateways ORDER BY kid"
    )
    assert [tuple(row.values()) for row in found] == [
        ("inference_proxy", "attestations", "att", "ab" * 32, True),
        ("inference_proxy", "batches", "gw-1", "", False),
        ("inference_proxy", "batches", "gw-2", "", True),
    ]
