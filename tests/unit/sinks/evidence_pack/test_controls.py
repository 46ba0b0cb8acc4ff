"""The mapping of controls: what is published is quoted, every query is used, a file that cannot be used says where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatemeter.sinks.evidence_pack.controls import PRIVATE, ControlsError, load_controls, read_controls

OURS = load_controls()
GOOD = """
[[framework]]
id = "f"
title = "Framework"
edition = "1"
source = "https://example.com"
[[control]]
framework = "f"
label = "C-1"
title = "Control"
queries = ["q"]
shows = "what"
[[query]]
id = "q"
title = "Query"
sql = "SELECT 1 ORDER BY 1"
"""


def test_labels_are_quoted_with_title_and_edition() -> None:
    titles = {control.label: (control.title, control.framework.edition) for control in OURS.controls}
    assert titles["NHI3:2025"] == ("Vulnerable Third-Party NHI", "2025")
    assert titles["NHI7:2025"] == ("Long-Lived Secrets", "2025")
    assert titles["ASI04"] == ("Agentic Supply Chain Vulnerabilities", "2026 (published December 2025)")
    assert titles["PR.AA-03"][0] == "Users, services, and hardware are authenticated"
    assert titles["MEASURE 2.4"][0].endswith("are monitored when in production.")
    assert len(titles) == len(OURS.controls)


def test_labels_of_our_own_notes_stand_beside_the_published_ones() -> None:
    noted = {control.label: control.also for control in OURS.controls if control.also}
    assert noted == {"NHI3:2025": "NHI-03", "ASI04": "A-04", "T4": "A-04"}


def test_all_four_bodies_of_controls_are_there_and_every_query_is_used() -> None:
    assert {control.framework.id for control in OURS.controls} == {"nhi", "asi", "threats", "csf", "ai-rmf"}
    functions = {control.label.split()[0] for control in OURS.controls if control.framework.id == "ai-rmf"}
    assert functions == {"GOVERN", "MEASURE"}
    defined = re.findall(r"\[\[query\]\]\nid = \"([^\"]+)\"", OURS.text)
    assert [query.id for query in OURS.queries] == defined


def test_our_mapping_never_says_that_a_control_is_met() -> None:
    assert not re.search(r"complian|complie|comply|conform|certif|satisf|fulfil", OURS.text, re.IGNORECASE)


def test_a_file_of_the_auditors_own_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(GOOD)
    controls = load_controls(file)
    assert [query.id for query in controls.queries] == ["q"]
    assert controls.text == GOOD


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[control]]", "[[controll]]", "controls.toml: controll: must be one of control, framework, query"),
        ("[[control]]", "[[control]", "must be TOML"),
        ('label = "C-1"\n', "", "control 1: label is missing"),
        ('title = "Control"', 'titel = "Control"', "control C-1: title is missing"),
        ('shows = "what"', 'shows = "what"\nalso_ = "x"', "control C-1: also_: must be one of also, framework"),
        ('shows = "what"', "shows = 3", "control C-1: shows: must be text"),
        ('framework = "f"', 'framework = "g"', "control C-1: framework: must be one of f"),
        ('queries = ["q"]', 'queries = ["r"]', "control C-1: queries: there is no query 'r'"),
        ('queries = ["q"]', "queries = []", "control C-1: queries: must be a list of ids of queries"),
        ('id = "q"', 'id = "../q"', "query '../q': id: must be 1 to 40 of a-z, 0-9 and -"),
        ("SELECT 1 ORDER BY 1", "DROP TABLE seals", "query q: sql: must begin with SELECT or WITH"),
        ("SELECT 1 ORDER BY 1", "SELECT 1; SELECT 2", "query q: sql: must be one statement"),
        ("SELECT 1 ORDER BY 1", "SELECT 1", "query q: sql: must have an ORDER BY"),
        ("SELECT 1 ORDER BY 1", "SELECT now() AS a ORDER BY a", "must give the same rows at any time, not call now()"),
        ('sql = "SELECT 1 ORDER BY 1"', 'computed = "luck"', "computed: must be one of seal-chain, got 'luck'"),
        ('sql = "SELECT 1 ORDER BY 1"', "", "query q: must have either sql or computed"),
    ],
)
def test_what_cannot_be_used_is_named(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ControlsError) as caught:
        read_controls(GOOD.replace(old, new, 1), "controls.toml")
    assert message in str(caught.value)


@pytest.mark.parametrize("column", sorted(PRIVATE))
def test_columns_in_which_secrets_may_be_are_not_read(column: str) -> None:
    with pytest.raises(ControlsError, match=f"must not read {column}"):
        read_controls(GOOD.replace("SELECT 1 ", f"SELECT {column} FROM t "), "controls.toml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ControlsError, match=r"none\.toml: must be a readable TOML file"):
        load_controls(tmp_path / "none.toml")
