"""Where shared helpers are found (`support`), and the fixtures that all tests may use."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = ["support.clickhouse", "support.kafka"]
