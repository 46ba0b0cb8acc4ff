"""A run is staged in bounded inserts, known by the digest of its rows; what cannot be a correction is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gatemeter.processors.corrections.rows import FIELDS, CorrectionError, digest_of
from gatemeter.processors.corrections.staging import known_to, new_run_id, stage
from gatemeter.schemas.codec import CURRENT
from gatemeter.schemas.tables import column_names
from gatemeter.sinks.memory import MemorySink
from support.corrections import RUN, correction, replacing


def test_a_row_has_the_fields_of_the_table_and_of_the_schema() -> None:
    assert column_names("corrections") == FIELDS
    assert tuple(field["name"] for field in CURRENT["Correction"].raw["fields"]) == FIELDS


def test_the_digest_covers_every_row_in_order() -> None:
    first, second = correction(0), correction(1, charge=6)
    assert digest_of([first, second]) != digest_of([correction(0), correction(1, charge=7)])
    assert digest_of([first]) != digest_of([first, second])
    with pytest.raises(CorrectionError, match=f"run {RUN}: entry 0 must come next, got 1"):
        digest_of([second, first])


def test_rows_are_staged_in_bounded_inserts() -> None:
    sink = MemorySink()
    staged = stage(sink, RUN, (correction(entry) for entry in range(10_001)))
    assert [rows.num_rows for _, rows in sink.writes] == [10_000, 1]
    assert (staged.entries, len(staged.digest)) == (10_001, 32)


def test_a_run_id_has_its_time_and_is_drawn_anew() -> None:
    at = datetime(2026, 11, 24, 12, 34, 44, tzinfo=UTC)
    run = new_run_id(17, at)
    assert (run[:17], run[-3:], known_to(run)) == ("20261124T123444Z-", "-17", 17)
    assert new_run_id(17, at) != run
    with pytest.raises(
        CorrectionError, match="run must be an id such as 20261124T123444Z-5f0c1a2b3c4d5e6f-17, got 'x'"
    ):
        known_to("x")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"charge": 2**63}, "charge must be within ±9223372.036854775807, got 9223372036854775808"),
        ({"reason": ""}, "reason must be 1 to 1000 characters, got ''"),
        ({"usage_hour": 1}, "usage_hour must be the start of an hour, got 1"),
        ({"cause": "whim"}, "cause must be one of reprice, manual, reorganisation, reconciliation, got 'whim'"),
        ({"kind": "both"}, "kind must be one of replace, free, got 'both'"),
        ({"request_id": "r"}, "target must be '' for a free entry, got ''"),
    ],
)
def test_what_cannot_be_a_correction_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(CorrectionError) as refused:
        correction(**changes)
    assert str(refused.value) == says


def test_a_replacement_names_its_row() -> None:
    assert replacing("r1").key.attempt_key == ("usage", "gw", "r1", 1)
    with pytest.raises(CorrectionError, match="target must be one of usage, decision, got ''"):
        replacing("r1", target="")
