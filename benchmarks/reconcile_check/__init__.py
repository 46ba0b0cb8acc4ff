"""Planted differences between gateway facts and format-true billing exports, and whether reconciliation finds each
one."""
