"""Corrections: rows that are staged first, made real by one signed COMMIT, and posted by the seal of its hour."""
