"""The audit for people: one table, what is wrong before what is worth a look before what is as it must be."""

from __future__ import annotations

from itertools import groupby
from typing import Final

from rich.markup import escape
from rich.table import Table

from gatemeter.cli.screen import plain_table
from gatemeter.sinks.reports.audit import Audit, Result

SHOWN: Final = 20
"""Rows of one check and result; `--json` has them all."""

_ORDER: Final = (Result.WRONG, Result.UNCHECKED, Result.NOTE, Result.OK)


def audit_table(result: Audit) -> Table:
    """One row a finding, in the order of the checks."""
    table = plain_table(title="Audit")
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("scope", overflow="fold")
    table.add_column("what", overflow="fold")
    for check, of_check in groupby(result.findings, key=lambda finding: finding.check):
        findings = list(of_check)
        for kind in _ORDER:
            rows = [finding for finding in findings if finding.result is kind]
            for finding in rows[:SHOWN]:
                shown = kind.upper() if kind in (Result.WRONG, Result.UNCHECKED) else kind.value
                table.add_row(escape(check), shown, escape(finding.scope), escape(finding.what))
            if len(rows) > SHOWN:
                table.add_row(escape(check), kind.value, "", f"{len(rows) - SHOWN:,} more: see --json")
    table.caption = "clean" if result.clean else "NOT CLEAN"
    table.caption_justify = "left"
    return table
