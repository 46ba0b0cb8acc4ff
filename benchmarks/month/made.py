"""A month of facts and the bill that agrees with it, made by ClickHouse itself: 10 million rows in some minutes.

Facts are of one provider, ten models, forty tenants; one call in twenty failed first, one in fifty was left by its
caller, one in a hundred has a second, better row. Each costs what the card says.
"""

from __future__ import annotations

from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.metadata.cards import RateLine
from gatemeter.processors.pricing.cards import CardHead, make_card_datum
from gatemeter.schemas.tables import TABLES

PERIOD: Final = "2026-10"
PROVIDER: Final = "openai"
MODELS: Final = tuple(f"model-{number}" for number in range(10))
ROWS_AN_INSERT: Final = 500_000
_FIRST: Final = "toDateTime64('2026-10-01 00:00:00', 6, 'UTC')"
_PRICES: Final = {
    "input_text_uncached": 2_500_000,
    "input_text_cache_read": 1_250_000,
    "output_text_visible": 10_000_000,
    "output_text_reasoning": 10_000_000,
}
# One part an insert, and none of its rows compared with each other.
_BULK: Final = {
    "min_insert_block_size_rows": ROWS_AN_INSERT,
    "min_insert_block_size_bytes": 0,
    "max_block_size": ROWS_AN_INSERT,
    "optimize_on_insert": 0,
}
# Every hundredth fact is the better row of the one before it, every twentieth the answer to the try before it.
_CALL: Final = "if(n % 100 = 99 OR n % 20 = 4, toUInt64(n - 1), toUInt64(n))"
_SUPERSEDED: Final = "version = 9223372036854775808 + 98"
_ZERO: Final = {"string": "''", "bytes": "''", "bool": "false", "time": _FIRST}


def card() -> dict[str, Any]:
    """The record of the card."""
    lines = [RateLine(PROVIDER, model, _PRICES, _PRICES) for model in MODELS]
    return make_card_datum(CardHead("month", 0, None, "USD", "made up"), lines)


def fill(client: Client, rows: int, content_hash: str) -> None:
    """Writes `rows` facts."""
    columns = [name for name, _ in TABLES["usage_facts"]]
    for start in range(0, rows, ROWS_AN_INSERT):
        count = min(ROWS_AN_INSERT, rows - start)
        values = _values(content_hash)
        chosen = ", ".join(f"{values.get(name) or _blank(kind)} AS {name}" for name, kind in TABLES["usage_facts"])
        client.command(
            f"INSERT INTO usage_facts ({', '.join(columns)}) SELECT {chosen} "
            f"FROM (SELECT number + {start} AS n, {_CALL} AS call, cityHash64(call) AS h, cityHash64(n, 1) AS t "
            f"FROM numbers({count}))",
            settings=_BULK,
        )


def _blank(kind: str) -> str:
    return "NULL" if kind.endswith("?") else _ZERO.get(kind, "0")


def _values(content_hash: str) -> dict[str, str]:
    at = f"addMicroseconds({_FIRST}, (h % 2678400) * 1000000)"
    unknown = "(n % 50 = 7 OR n % 20 = 3)"
    tokens = {
        "input_text_uncached": "toInt64(200 + t % 3000)",
        "input_text_cache_read": "toInt64(if(t % 3 = 0, 500, 0))",
        "output_text_visible": "toInt64(20 + t % 700)",
        "output_text_reasoning": "toInt64(if(t % 5 = 0, 100, 0))",
    }
    cost = " + ".join(f"{text} * {_PRICES[name]}" for name, text in tokens.items())
    money = f"if({unknown}, NULL, {cost})"
    amounts = ("list_cost", "provider_cost", "token_cost", "charge")
    nothing = ("model_cost", "policy_cost", "markup", "cache_price", "absorbed")
    return {
        **{name: f"if({unknown}, NULL, {text})" for name, text in tokens.items()},
        **dict.fromkeys(amounts, f"toDecimal128({money}, 12) / 1000000000000"),
        **dict.fromkeys(nothing, f"if({unknown}, NULL, toDecimal128(0, 12))"),
        **dict.fromkeys(("usage_hour", "posted_hour"), f"toStartOfHour({at})"),
        **dict.fromkeys(("request_started_at", "occurred_at", "recorded_at"), at),
        "window_cost": "toDecimal128(0, 12)",
        "gateway_id": "concat('gw-', toString(h % 3))",
        "request_id": "lower(hex(sipHash128(call)))",
        "attempt": "if(n % 20 = 4, 2, 1)",
        "response_hash": "lower(hex(sipHash128(n, 1)))",
        "version": "toUInt64(9223372036854775808 + n % 100)",
        "status": "multiIf(n % 20 = 3, 'error', n % 50 = 7, 'cancelled', 'ok')",
        "has_response": "true",
        "tenant_id": "concat('tenant-', toString(h % 40))",
        "app_id": "concat('app-', toString(h % 4))",
        "workload_id": "concat('spiffe://example.org/w', toString(h % 160))",
        "evidence_grade": "'A'",
        "attribution": "'attributed'",
        "cost_centre": "concat('cc-', toString(h % 40))",
        "provider": f"'{PROVIDER}'",
        "model": "concat('model-', toString(h % 10))",
        "served_model": "concat('model-', toString(h % 10))",
        "workload_class": "'realtime'",
        "purpose": "'workload'",
        "usage_source": f"if({unknown}, 'missing', 'reported')",
        "provider_request_id": "concat('chatcmpl-', lower(hex(sipHash128(call, n % 20 = 4))))",
        "price_status": f"if({unknown}, 'no_usage', 'priced')",
        "currency": f"if({unknown}, '', 'USD')",
        "rate_card_id": f"if({unknown}, '', 'month')",
        "rate_card_hash": f"if({unknown}, '', '{content_hash}')",
        "retry_rule": "'all_provider_charged'",
        "topic": "'gatemeter.events'",
    }


def bill(client: Client) -> None:
    """One import with a line a day, model and token type, of every fact that counts."""
    columns = "import_id, line, provider, content, account, billing_day, calendar, charge_category, model, token_type"
    for number, (bucket, price) in enumerate(_PRICES.items()):
        amount = f"toDecimal128(sum({bucket}) * {price}, 12) / 1000000000000"
        client.command(
            f"INSERT INTO billing_lines ({columns}, quantity, unit, amount, currency) "
            f"SELECT 'month', {number}000000 + row_number() OVER (ORDER BY day, model), '{PROVIDER}', "
            f"'cost_and_usage', 'org-1', toDate(usage_hour) AS day, 'UTC', 'usage', model, '{bucket}', "
            f"toDecimal128(sum({bucket}), 12), 'tokens', {amount}, "
            f"'USD' FROM usage_facts WHERE NOT ({_SUPERSEDED}) GROUP BY day, model HAVING sum({bucket}) > 0"
        )
    client.command(
        "INSERT INTO billing_coverage SELECT 'month', provider, account, content, billing_day FROM billing_lines "
        "GROUP BY provider, account, content, billing_day"
    )
    client.command(
        "INSERT INTO billing_imports (import_id, imported_at, provider) VALUES ('month', now64(6), 'openai')"
    )


def seal(client: Client) -> None:
    """Ledger entries of all facts that count, in canonical seals: one an hour, and one after the month."""
    facts = {name for name, _ in TABLES["usage_facts"]}
    values = {
        "seal_id": "concat('seal-', toString(toUnixTimestamp(usage_hour)))",
        "entry": "toInt64(rowNumberInAllBlocks())",
        **dict.fromkeys(("usage_period", "posting_period"), f"'{PERIOD}'"),
        **dict.fromkeys(("kind", "cause"), "'usage'"),
        "attempt_role": "multiIf(status = 'error', 'retried', status = 'cancelled', 'cancelled', 'answered')",
        "input_tokens": "ifNull(input_text_uncached, 0) + ifNull(input_text_cache_read, 0)",
        "output_tokens": "ifNull(output_text_visible, 0) + ifNull(output_text_reasoning, 0)",
        "retry_cost": "if(status = 'ok', charge - charge, charge)",
    }
    chosen = [
        f"{values.get(name) or (name if name in facts else _blank(kind))} AS {name}" for name, kind in TABLES["ledger"]
    ]
    columns = ", ".join(name for name, _ in TABLES["ledger"])
    days = client.query("SELECT DISTINCT toDate(usage_hour) AS day FROM usage_facts ORDER BY day").result_rows
    for (day,) in days:
        client.command(
            f"INSERT INTO ledger ({columns}) SELECT {', '.join(chosen)} FROM usage_facts "
            f"WHERE toDate(usage_hour) = '{day}' AND NOT ({_SUPERSEDED})",
            settings=_BULK,
        )
    client.command(
        "INSERT INTO seals (number, seal_id, posted_hour) "
        "SELECT toInt64(row_number() OVER (ORDER BY posted_hour)), any(seal_id), posted_hour "
        "FROM ledger GROUP BY posted_hour "
        f"UNION ALL SELECT 1000000, 'last', addHours({_FIRST}, 800)"
    )


def close(client: Client) -> None:
    """The month is closed, after its last seal."""
    client.command(f"INSERT INTO closed_periods (period, after_seal, reason) VALUES ('{PERIOD}', 1000000, 'made up')")
