"""Where shared helpers are found (`support`), and the fixtures that all tests may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

from support.depth import IS_SOAK

# Every worker, command and server that a test starts would compile all of gatemeter anew where no bytecode is kept: a
# third of what its start costs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A console takes the width from here once, when its module is imported, and never asks again; the processes of
# pytest-xdist have one.
os.environ.pop("COLUMNS", None)

# How busy a machine is says nothing about the code: no property has a time limit.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", settings.get_profile("unhurried"), max_examples=1000)
# For tests that run a second time against something else, as the wheel: their examples have been seen.
settings.register_profile("again", settings.get_profile("unhurried"), max_examples=10)
settings.load_profile("soak" if IS_SOAK else "unhurried")

pytest_plugins = ["support.clickhouse", "support.distribution", "support.kafka"]
