"""What chaos counts is found: a lost key, a doubled one, one that nobody said, and a token too many."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from chaos.checks import _by_key
from chaos.oracle import Oracle, Usage

KEYS = ("gateway_id", "id", "attempt", "tenant", "model", "input_tokens", "output_tokens", "provider_cost", "charge")
ROWS = [["g", f"r{number}", "1", "retail", "llama", "10", "5", "7", "8"] for number in range(4)]


class Client:
    """Answers the two questions of the check."""

    def __init__(self, rows: list[list[str]], doubled: int = 0) -> None:
        self.rows, self.result_rows = rows, [(doubled,)]

    def query_arrow(self, *_: Any, **__: Any) -> pa.Table:
        return pa.table({name: [row[at] for row in self.rows] for at, name in enumerate(KEYS)})

    def query(self, _: str) -> Client:
        return self


@pytest.mark.parametrize(
    ("there", "doubled", "found"),
    [
        (ROWS, 0, {}),
        (ROWS[1:], 0, {"lost": 1}),
        ([*ROWS, ["g", "r9", *ROWS[0][2:]]], 0, {"unexpected": 1}),
        ([[*ROWS[0][:5], "11", *ROWS[0][6:]], *ROWS[1:]], 0, {"differing": 1}),
        ([*ROWS[:-1], [*ROWS[3][:-1], "9"]], 0, {"differing": 1}),
        (ROWS, 2, {"doubled": 2}),
        ([*ROWS, ROWS[0]], 0, {"doubled": 1}),
    ],
    ids=["all is well", "lost", "unexpected", "a token too many", "a charge", "doubled rows", "doubled truth"],
)
def test_what_is_wrong_is_counted(tmp_path: Path, there: list[list[str]], doubled: int, found: dict[str, int]) -> None:
    said = pa.table({name: [row[at] for row in ROWS] for at, name in enumerate(KEYS)})
    with pa.ipc.new_file(tmp_path / "said.arrow", said.schema) as writer:
        writer.write_table(said)
    place: Any = SimpleNamespace(folder=tmp_path, client=Client(there, doubled))
    counted = _by_key(place, lambda text: None)
    assert counted == {"keys": 4, "lost": 0, "doubled": 0, "unexpected": 0, "differing": 0} | found


def test_the_oracle_reckons_as_one_does_by_hand() -> None:
    oracle = Oracle()
    call = {"gateway": "g", "request_id": "r", "request_started_at": 0, "model": "gpt-4.1"}
    usage = Usage(uncached=1_000, cached=100, output=10)
    oracle.attempt({**call, "tenant_id": "retail", "attempt": 1}, usage, answered=False)
    oracle.attempt({**call, "tenant_id": "wealth", "attempt": 2}, usage, answered=False)
    paid, absorbed = oracle.lines.values()
    list_cost = 1_000 * 2_000_000 + 100 * 500_000 + 10 * 8_000_000
    assert (paid.list_cost, paid.provider_cost) == (list_cost, list_cost * 95 // 100)
    assert paid.charge == paid.provider_cost * 108 // 100
    assert (absorbed.provider_cost, absorbed.charge) == (paid.provider_cost, 0), "wealth pays for answers only"
