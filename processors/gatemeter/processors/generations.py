"""Generations of the events topic: a log that was re-created, or needs more partitions, goes on under another name."""

from __future__ import annotations

import re


def successor(topic: str) -> str:
    """The name of the next generation: gatemeter.events, gatemeter.events.g2, gatemeter.events.g3, …"""
    match = re.fullmatch(r"(.+)\.g(\d+)", topic)
    return f"{match[1]}.g{int(match[2]) + 1}" if match else f"{topic}.g2"


def next_generation(topic: str) -> str:
    """What an operator does, in the words of a loud stop."""
    name = successor(topic)
    return (
        f"create a new generation of the topic: gatemeter topics apply --events-topic {name}, then workers"
        f" with GATEMETER_TOPIC={name} and emitters with that topic"
    )
