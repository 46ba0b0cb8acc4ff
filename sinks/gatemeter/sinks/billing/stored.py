"""What billing imports have left in ClickHouse: the imports, what is in one, and the lines in force."""

from __future__ import annotations

from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.rows import query_rows

Row = dict[str, Any]

_IMPORTS: Final = """
SELECT i.*, toString(i.imported_at) AS at, ifNull(f.days_in_force, 0) AS days_in_force
FROM (SELECT * FROM billing_imports FINAL) AS i
LEFT JOIN (SELECT import_id, uniqExact(billing_day) AS days_in_force FROM billing_days GROUP BY import_id) AS f
    ON f.import_id = i.import_id
WHERE ({provider:String} = '' OR i.provider = {provider:String}) AND startsWith(i.import_id, {start:String})
ORDER BY i.imported_at DESC, i.import_id
"""
_TOTALS: Final = """
SELECT content, charge_category, currency, count() AS lines, countIf(in_force) AS lines_in_force, sum(amount) AS total,
    sumIf(amount, in_force) AS total_in_force, countIf(amount IS NULL) AS without_amount
FROM
(
    SELECT *, (import_id, provider, account, content, billing_day) IN
        (SELECT import_id, provider, account, content, billing_day FROM billing_days) AS in_force
    FROM (SELECT * FROM billing_lines FINAL WHERE import_id = {id:String})
)
GROUP BY content, charge_category, currency ORDER BY content, charge_category, currency
"""
_REJECTED: Final = """
SELECT line, field, reason, raw FROM billing_rejected FINAL WHERE import_id = {id:String}
ORDER BY line, field LIMIT {limit:UInt32}
"""
_ACCOUNTS: Final = """
SELECT provider, account, content, min(billing_day) AS first_day, max(billing_day) AS last_day, count() AS days
FROM billing_coverage FINAL WHERE import_id = {id:String} GROUP BY provider, account, content
ORDER BY provider, account, content
"""
LINE_COLUMNS: Final = (
    *("billing_day", "provider", "content", "account", "project", "key_id", "charge_category", "charge_class"),
    *("line_item", "model", "token_type", "service_tier", "workload_class", "region", "quantity", "unit", "amount"),
    *("list_amount", "currency", "calendar", "starts_at", "ends_at", "tags", "import_id", "source_line"),
)
_LINES: Final = f"""
SELECT {", ".join(f"toString({name}) AS {name}" if name.endswith("_at") else name for name in LINE_COLUMNS)}
FROM {{source}}
WHERE ({{{{provider:String}}}} = '' OR provider = {{{{provider:String}}}})
    AND ({{{{account:String}}}} = '' OR account = {{{{account:String}}}})
    AND ({{{{content:String}}}} = '' OR content = {{{{content:String}}}} OR content = 'cost_and_usage')
    AND ({{{{period:String}}}} = '' OR formatDateTime(billing_day, '%Y-%m') = {{{{period:String}}}})
    AND startsWith(import_id, {{{{start:String}}}})
ORDER BY billing_day, provider, account, content, import_id, line LIMIT {{{{limit:UInt64}}}}
"""


def imports(client: Client, *, provider: str = "", start: str = "") -> list[Row]:
    """Imports that count, the latest first. `start`: how their id begins. Raises `SinkUnavailable`, `SinkRefused`.

    `days_in_force`: how many days it says what counts of; 0 where later imports have replaced all.
    """
    return query_rows(client, "list billing imports", _IMPORTS, {"provider": provider, "start": start})


def totals(client: Client, import_id: str) -> list[Row]:
    """Lines and amounts of an import by content, category and currency: all of it, and what of it is in force."""
    return query_rows(client, "add up an import", _TOTALS, {"id": import_id})


def accounts(client: Client, import_id: str) -> list[Row]:
    """The accounts of which an import speaks, with their days."""
    return query_rows(client, "read the days of an import", _ACCOUNTS, {"id": import_id})


def rejected(client: Client, import_id: str, limit: int) -> list[Row]:
    """Rows of an import that gave no line."""
    return query_rows(client, "read rejected rows", _REJECTED, {"id": import_id, "limit": limit})


def lines(
    client: Client,
    *,
    provider: str = "",
    account: str = "",
    content: str = "",
    period: str = "",
    start: str = "",
    limit: int = 1_000_000,
) -> list[Row]:
    """The lines in force, by day. `period`: YYYY-MM of the billing day. Amounts are decimals."""
    asked = {"provider": provider, "account": account, "content": content, "period": period, "start": start}
    query = _LINES.format(source="billing_lines_in_force")
    return query_rows(client, "read billing lines", query, asked | {"limit": limit})
