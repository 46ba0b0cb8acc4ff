"""Thresholds: what a file may say, and what an error names."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatemeter.sinks.exceptions.thresholds import NUMBERS, Thresholds, ThresholdsError, load_thresholds


def written(folder: Path, text: str) -> Path:
    path = folder / "thresholds.toml"
    path.write_text(text)
    return path


def test_a_tenant_says_only_what_differs(tmp_path: Path) -> None:
    text = '[defaults]\nburst_factor = 5\n[tenants.acme]\nburst_factor = 9\nallowed_models = ["gpt-4o*"]\n'
    limits = load_thresholds(written(tmp_path, text))
    assert (limits.number("burst_factor", "acme"), limits.number("burst_factor", "globex")) == (9, 5)
    assert limits.number("orphans_min", "acme") == 1
    assert limits.allows("acme", "gpt-4o-mini") and not limits.allows("acme", "o1-pro")
    assert limits.allows("globex", "o1-pro")
    assert limits.sql("orphans_min") == "toInt64(1)"
    assert "[toInt64(9)], toInt64(5)" in limits.sql("burst_factor")


def test_an_empty_list_of_a_tenant_allows_all_again(tmp_path: Path) -> None:
    text = '[defaults]\nallowed_models = ["gpt-4o*"]\n[tenants.lab]\nallowed_models = []\n'
    limits = load_thresholds(written(tmp_path, text))
    assert limits.allows("lab", "o1-pro") and not limits.allows("acme", "o1-pro")


def test_without_a_file_the_built_in_ones_hold() -> None:
    assert load_thresholds(None) == Thresholds()
    assert all(low <= default <= high for default, low, high in NUMBERS.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[defaults]\nburst_factor = 1\n", "defaults.burst_factor: must be an integer from 2 to 1000, got 1"),
        ("[defaults]\nburst_factor = 2.5\n", "defaults.burst_factor: must be an integer from 2 to 1000, got 2.5"),
        ("[defaults]\nburst_factor = true\n", "defaults.burst_factor: must be an integer from 2 to 1000, got True"),
        ("[tenants.acme]\nburst_facter = 4\n", "tenants.acme.burst_facter: must be one of baseline_min_days, "),
        ('[tenants.acme]\nallowed_models = "x"\n', "tenants.acme.allowed_models: must be a list of patterns"),
        ("[tenants]\nacme = 3\n", "tenants.acme: must be a table"),
        ("tenants = 3\n", "tenants: must be a table of tables"),
        ("[default]\n", "default: must be one of defaults, tenants"),
        ("defaults\n", "must be a readable TOML file"),
    ],
)
def test_an_error_names_the_file_the_field_and_what_is_accepted(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ThresholdsError) as caught:
        load_thresholds(path)
    assert str(caught.value).startswith(f"{path}: {message}")
