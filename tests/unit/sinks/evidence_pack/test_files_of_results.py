"""Results for reading: the CSV of a query runs nothing where an auditor opens it, its JSON has what was answered."""

from __future__ import annotations

from gatemeter.sinks.evidence_pack.answers import Answer
from gatemeter.sinks.evidence_pack.controls import Query
from gatemeter.sinks.evidence_pack.files import result_csv


def test_names_that_would_be_calculated_are_text_and_numbers_stay_numbers() -> None:
    query = Query("q", "Query", "SELECT 1 ORDER BY 1", "")
    rows = (("=HYPERLINK(1)", "-0.25", -3, ["@a"], None, True),)
    assert result_csv(Answer(query, ("app", "cost", "n", "ids", "none", "is"), rows)) == (
        'app,cost,n,ids,none,is\n\'=HYPERLINK(1),-0.25,-3,"[""@a""]",,true\n'
    )
