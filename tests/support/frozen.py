"""Digests of the released contracts: `.avsc` files and ClickHouse migrations. Run as a script it takes them anew.

Before a contract is released, its owner may change the file and run `make refreeze`. A released file never changes:
add the next version (`….v2.avsc`, the next number of a migration) and freeze that.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
CONTRACTS: Final = ROOT / "schemas" / "gatemeter" / "schemas"
FROZEN: Final = ROOT / "tests" / "unit" / "schemas" / "frozen.json"


def digests() -> dict[str, str]:
    """File name below the contracts → SHA-256 of its bytes, hex."""
    files = sorted([*CONTRACTS.glob("avro/*.avsc"), *CONTRACTS.glob("clickhouse/**/*.sql")])
    return {file.relative_to(CONTRACTS).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def frozen() -> dict[str, str]:
    """What `digests` gave when the contracts were frozen."""
    entries: dict[str, str] = json.loads(FROZEN.read_text("utf-8"))
    return entries


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(digests(), indent=1) + "\n", "utf-8")
    print(f"{FROZEN.relative_to(ROOT)}: {len(digests())} contracts frozen")
