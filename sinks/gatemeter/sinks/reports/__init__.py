"""Readers of ClickHouse: statements for finance, the check of conservation for auditors."""
