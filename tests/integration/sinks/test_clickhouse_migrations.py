"""Migrations: once, in order, and a file that was applied never changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.schemas.tables import TABLES
from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from gatemeter.sinks.migrations import Migration, MigrationChanged, MigrationSettings, apply, migrate, migrations
from gatemeter.sinks.port import SinkRefused
from support.clickhouse import ClickHouse


@pytest.fixture
def empty(clickhouse: ClickHouse) -> Iterator[ClickHouseSettings]:
    settings = clickhouse.empty()
    yield settings
    clickhouse.drop(settings)


def test_migrating_twice_is_migrating_once(empty: ClickHouseSettings) -> None:
    assert migrate(empty) == [file.name for file in migrations()]
    assert migrate(empty) == []
    client = connect(empty)
    names = {row[0] for row in client.query("SHOW TABLES").result_rows}
    assert set(TABLES) <= names
    assert client.command("SELECT count() FROM migrations") == len(migrations())


_CLICKHOUSE = {
    "string": r"(LowCardinality\(String\)|String)",
    "bytes": "String",
    "bool": "Bool",
    "time": r"DateTime64\(6, 'UTC'\)",
    "pico": r"Decimal\(38, 12\)",
    "int": "Int64",
    "u8": "UInt8",
    "u16": "UInt16",
    "u64": "UInt64",
}


@pytest.mark.parametrize("table", list(TABLES))
def test_tables_have_exactly_the_columns_of_the_contract(clickhouse_client: Client, table: str) -> None:
    columns = [row[:2] for row in clickhouse_client.query(f"DESCRIBE TABLE {table}").result_rows]
    assert [name for name, _ in columns] == [name for name, _ in TABLES[table]]
    for (name, kind), (_, found) in zip(TABLES[table], columns, strict=True):
        expected = _CLICKHOUSE[kind.removesuffix("?")]
        expected = rf"Nullable\({expected}\)" if kind.endswith("?") else expected
        assert re.fullmatch(expected, found), f"{table}.{name}: {found}"


ENGINES = {
    "usage_facts": ("ReplacingMergeTree(version)", "posted_hour, gateway_id, request_id, attempt, response_hash"),
    "policy_facts": ("ReplacingMergeTree(version)", "posted_hour, gateway_id, decision_id, content_hash"),
    "usage_windows": ("ReplacingMergeTree(revision)", "window_start, gateway_id"),
    "quarantine": ("ReplacingMergeTree", "topic, partition, offset, event_index"),
    "evidence": ("ReplacingMergeTree", "topic, partition, offset, event_index"),
    "exceptions": ("ReplacingMergeTree", "topic, partition, offset, event_index, kind"),
    "gateway_epochs": ("MergeTree", "gateway_id, epoch, topic, partition, first_sequence"),
    "ingest_batches": ("MergeTree", "topic, partition, next_offset"),
    "attestations": ("ReplacingMergeTree", "gateway_id, epoch, topic, partition, from_sequence"),
    "quarantine_discards": ("ReplacingMergeTree", "topic, partition, offset, event_index"),
    "commits": ("ReplacingMergeTree(version)", "run_id"),
    "operator_log": ("ReplacingMergeTree", "topic, partition, offset"),
    "corrections": ("MergeTree", "run_id, entry"),
    "ledger": ("ReplacingMergeTree", "posted_hour, tenant_id"),
    "seal_leaves": ("ReplacingMergeTree", "posted_hour, gateway_id, request_id"),
    "seals": ("ReplacingMergeTree", "number"),
    "closed_periods": ("ReplacingMergeTree", "period"),
}


@pytest.mark.parametrize("table", list(TABLES))
def test_tables_have_the_engine_and_the_order_that_make_repeats_harmless(clickhouse_client: Client, table: str) -> None:
    query = (
        "SELECT engine_full, sorting_key FROM system.tables WHERE database = currentDatabase() AND name = {t:String}"
    )
    ((engine, order),) = clickhouse_client.query(query, {"t": table}).result_rows
    expected_engine, expected_order = ENGINES[table]
    assert engine.split(" ")[0] == expected_engine
    assert order.startswith(expected_order)
    if table == "usage_windows":
        assert order.split(", ") == [name for name, _ in TABLES[table]][:16]


def test_an_applied_file_that_changed_is_an_error_and_nothing_is_applied(clickhouse_client: Client) -> None:
    files = migrations()
    changed = replace(files[0], text=files[0].text + "\n-- a comment\n")
    new = Migration("9999_new.sql", "CREATE TABLE new_table (a UInt8) ENGINE = Memory;\n")
    with pytest.raises(MigrationChanged, match=r"0001_tables\.sql"):
        apply(clickhouse_client, [changed, *files[1:], new], MigrationSettings())
    assert clickhouse_client.command("EXISTS TABLE new_table") == 0


def test_a_migration_that_died_half_way_runs_again(clickhouse_client: Client) -> None:
    broken = Migration("9999_new.sql", "CREATE TABLE IF NOT EXISTS half (a UInt8) ENGINE = Memory;\nSELEC 1;\n")
    with pytest.raises(SinkRefused, match=r"9999_new\.sql"):
        apply(clickhouse_client, [broken], MigrationSettings())
    mended = replace(broken, text=broken.text.replace("SELEC", "SELECT"))
    assert apply(clickhouse_client, [mended], MigrationSettings()) == ["9999_new.sql"]


def test_roles_are_a_step_of_their_own_that_the_embedded_engine_refuses(empty: ClickHouseSettings) -> None:
    with pytest.raises(SinkRefused, match=r"server/0001_roles\.sql"):
        migrate(empty, MigrationSettings(server=True))
    assert migrate(empty) == []  # the tables were applied before


def test_fsync_is_a_setting_of_every_table(empty: ClickHouseSettings) -> None:
    migrate(empty, MigrationSettings(fsync=True))
    client = connect(empty)
    for table in TABLES:
        assert "fsync_after_insert = 1" in str(client.command(f"SHOW CREATE TABLE {table}"))
