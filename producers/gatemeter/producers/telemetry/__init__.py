"""Telemetry: what traces tell of calls. A caller may leave out what it likes, so it is evidence, never a fact.

`spans` is pure and needs nothing; `otlp` reads the protocol and needs the extra `collector` (docs/hooks/otlp.md).
"""
