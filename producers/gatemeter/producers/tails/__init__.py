"""Tails: meters that read what a gateway writes about itself, line by line, and publish it (docs/hooks/envoy.md)."""

from __future__ import annotations

from gatemeter.producers.tails.following import LogFile, LogPipe
from gatemeter.producers.tails.positions import Position, PositionError, Positions
from gatemeter.producers.tails.running import Tail, TailReport

__all__ = ["LogFile", "LogPipe", "Position", "PositionError", "Positions", "Tail", "TailReport"]
