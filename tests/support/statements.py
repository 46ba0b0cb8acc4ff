"""Books for tests of statements: March is closed, April corrects it; names are hostile, currencies several."""

from __future__ import annotations

from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings
from gatemeter.sinks.terms.months import month_of
from support.facts import decision, fact
from support.sealing import Hours, at, free, replacement
from support.terms import log_row, rate_datum

CENT: Final = 10**10
HOSTILE: Final = "<script>alert('x')</script>"
"""A tenant that would run in a page, and with '=' before it in a spreadsheet."""
FORMULA: Final = "=cmd|' /C calc'!A0"
LONG: Final = (
    "spiffe://northwind.example/retail-banking/a-department-with-a-rather-long-name/an-agent-with-an-even-longer-one"
)
MARCH, APRIL = month_of("2026-03"), month_of("2026-04")
APRIL_1: Final = (APRIL.start_us - at(0)) // 3_600_000_000
"""The first hour of April, counted as `Hours` counts."""
FIRST: Final = APRIL_1 - 2
"""The first hour with usage; March ends after the next one."""
RUN: Final = "run-1"
SHARED_BY: Final = "reconciliation R20260501T091500Z-5f0c1a2b3c4d5e6f of openai 2026-04"
RECONCILED: Final = "20260401T120000Z-00000000000000cc-0"
_AMOUNTS: Final = (
    *("list_cost", "provider_cost", "token_cost", "model_cost", "policy_cost", "markup", "cache_price", "absorbed"),
    "charge",
)


def usage(request_id: str, tokens: int, *, hour: int = FIRST, **changes: Any) -> dict[str, Any]:
    """An attempt of `tokens` input tokens and a tenth of that output, at 0.001 cents a token, 10 % mark-up on top."""
    cost = tokens * CENT // 1_000
    money = {"list_cost": 2 * cost, "provider_cost": cost, "token_cost": cost, "markup": cost // 10}
    return fact(
        request_id,
        **{
            "posted": hour,
            "input_text_uncached": tokens,
            "output_text_visible": tokens // 10,
            "rate_card_id": "card",
            "plan_id": "standard",
            "cost_centre": "CC-1",
            "workload_id": "w",
            **money,
            "charge": cost + cost // 10,
            **changes,
        },
    )


def unpriced(request_id: str, tokens: int, **changes: Any) -> dict[str, Any]:
    """One whose model has no price: nothing is known of its amounts."""
    nothing = dict.fromkeys(_AMOUNTS)
    return usage(request_id, tokens, price_status="unpriced", currency="", rate_card_id="", **nothing, **changes)


class Books:
    """A database with one closed month, one that is open, and a sealer that goes on."""

    def __init__(self, settings: ClickHouseSettings, client: Client) -> None:
        self.settings, self.client = settings, client
        self.hours = Hours(settings, client)
        self.hours.sink.write("operator_log", rows_to_arrow("operator_log", self._records()))
        self._march()
        self._april()

    def _records(self) -> list[dict[str, Any]]:
        rates = [
            {
                "provider": "openai",
                "model": "gpt-4o",
                "service_tier": None,
                "workload_class": "any",
                "region": None,
                "input_tokens_above": 0,
                "effective_from": 0,
                "effective_to": None,
                "list_pico": {"input_text_uncached": 2 * CENT // 1_000, "output_text_visible": 4 * CENT // 1_000},
                "provider_pico": {"input_text_uncached": CENT // 1_000, "output_text_visible": 3 * CENT // 1_000},
            }
        ]
        card = {"currency": "USD", "content_hash": "c0ffee", "source": "contract of 2026", "rates": rates}
        tenant = {"name": f"Acme & Sons {HOSTILE}", "cost_centre": "CC-1", "business_unit": "", "organisation": "Acme"}
        tenant |= {"plan_id": "standard", "apps": []}
        dates = {"effective_from": 0, "effective_to": None}
        return [
            log_row("RateCard", "card", card | dates, 1),
            log_row("Tenant", "acme", tenant | dates, 2),
            log_row("FxRate", "USD/EUR", rate_datum(), 3),
            log_row("FxRate", "JPY/EUR", rate_datum("JPY/EUR", "0.006"), 4),
        ]

    def _march(self) -> None:
        self.hours.usage(
            usage("a", 1_000_000),
            usage(
                "b",
                333_333,
                hour=FIRST + 1,
                app_id="ide",
                workload_id=LONG,
                cost_centre="CC-2",
                output_text_reasoning=999,
            ),
            usage("c", 777, hour=FIRST + 1, model="m-mini", usage_source="estimated"),
            usage("retried", 5_000, hour=FIRST + 1, attempt=1, status="error"),
            usage("retried", 5_000, hour=FIRST + 1, attempt=2, response_hash="retried-2"),
            usage("yen", 40_000_000, currency="JPY", provider="gemini", model="flash", rate_card_id="yen-card"),
            unpriced("gone", 1_234, model="gpt-9"),
            usage("orphan", 0, status="orphan", price_status="no_usage", **dict.fromkeys(_AMOUNTS)),
            usage("h", 2_000, tenant_id=HOSTILE, app_id=FORMULA, workload_id=FORMULA, cost_centre=FORMULA),
        )
        self.hours.decisions(
            decision(
                "d-a",
                "a",
                posted=FIRST,
                policy_cost=3 * CENT,
                charge=3 * CENT,
                markup=0,
                cost_centre="CC-1",
                workload_id="w",
            ),
            decision(
                "d-b", "b", posted=FIRST, outcome="deny", policy_id="<b>policy</b>", cost_centre="CC-2", app_id="ide"
            ),
        )
        self.hours.over(FIRST + 1)
        self.hours.seal()
        self.hours.topic.close_period("2026-03", after=1)

    def _april(self) -> None:
        """Corrections and late usage of March are sealed, April's own usage is in an hour that is not."""
        self.hours.usage(usage("april", 10_000, hour=APRIL_1 + 1), usage("late", 600, hour=APRIL_1, used=FIRST))
        self.hours.usage(
            usage("b41a042441a09c54a14b1d2031e60b91", 9, hour=APRIL_1, tenant_id="globex", workload_id=LONG)
        )
        credit = free(
            -25 * CENT, usage_hour=at(FIRST), cost_centre="CC-1", list_cost=0, provider_cost=0, token_cost=-25 * CENT
        )
        dearer = replacement("a", **self._repriced("a", 1_200_000))
        self.hours.correct(APRIL_1, dearer, credit, run=RUN)
        shared: dict[str, Any] = {"tenant_id": "globex", "usage_hour": at(APRIL_1), "cause": "reconciliation"}
        causes = (("credit", -2), ("tax", 5), ("tax", 4))
        entries = [
            free(amount * CENT, model_cost=amount * CENT, reason=f"{SHARED_BY}: {cause}. reviewed", **shared)
            for cause, amount in causes
        ]
        self.hours.correct(APRIL_1, *entries, run=RECONCILED)
        self.hours.over(APRIL_1)
        self.hours.seal()

    @staticmethod
    def _repriced(request_id: str, tokens: int) -> dict[str, Any]:
        row = usage(request_id, tokens)
        amounts = {name: row[name] for name in ("list_cost", "provider_cost", "token_cost", "markup", "charge")}
        return amounts | {
            "usage_hour": at(FIRST),
            "rate_card_id": "card",
            "plan_id": "standard",
            "reason": "price of the new contract",
        }

    def sql(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        return list(self.client.query(query, parameters).result_rows)
