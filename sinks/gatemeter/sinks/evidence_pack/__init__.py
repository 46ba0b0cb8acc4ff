"""Evidence packs for auditors: published controls, the queries that speak to them, and what these give for a month.

`controls` reads the mapping (`controls.toml`, or an auditor's own), `answers` asks ClickHouse, `index` and `files` make
the pack. A pack claims nothing about a control; it is checked with `gatemeter.schemas.evidence_packs`.
"""
