"""`kill -9` in the middle of a billing import: nothing of it counts, and made again it counts once."""

from __future__ import annotations

import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.processes import Processes, eventually

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import exports  # isort: skip
from benchmarks.exports import Line  # isort: skip

LINES = 45_000


def test_a_killed_import_counts_only_when_it_is_made_again(
    clickhouse_database: ClickHouseSettings, clickhouse_client: Client, tmp_path: Path
) -> None:
    def one(query: str) -> object:
        return clickhouse_client.query(query).result_rows[0][0]

    path = tmp_path / "costs.csv"
    lines = [Line(date(2026, 11, 3), f"m{number % 7}", "output_total", amount=Decimal(1)) for number in range(LINES)]
    exports.write_openai_csv(path, lines)
    command = [
        str(Path(sys.executable).with_name("gatemeter")),
        "billing",
        "import",
        str(path),
        "--format",
        "openai-csv",
    ]
    environment = {
        "GATEMETER_CLICKHOUSE_URL": clickhouse_database.url,
        "GATEMETER_CLICKHOUSE_USER": clickhouse_database.user,
        "GATEMETER_CLICKHOUSE_PASSWORD": clickhouse_database.password,
        "GATEMETER_CLICKHOUSE_DATABASE": clickhouse_database.database,
    }
    with Processes(tmp_path) as processes:
        first = processes.start(command, environment)
        eventually(lambda: one("SELECT count() FROM billing_lines"), "the first lines are written")
        first.kill()
        assert one("SELECT count() FROM billing_imports") == 0, "it was killed in its middle"
        assert one("SELECT count() FROM billing_lines_in_force") == 0
        assert processes.start(command, environment).wait() == 0
        assert one("SELECT count() FROM billing_lines_in_force") == LINES
        assert one("SELECT sum(amount) FROM billing_lines_in_force") == LINES
