"""Where shared helpers are found (`support`), and the fixtures that all tests may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# A console takes the width from here once, when its module is imported, and never asks again; the processes of
# pytest-xdist have one.
os.environ.pop("COLUMNS", None)

pytest_plugins = ["support.clickhouse", "support.kafka"]
