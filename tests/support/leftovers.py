"""Finds what a command has left running: processes that carry a mark in their environment."""

from __future__ import annotations

from pathlib import Path

MARK = "GATEMETER_TEST_MARK"


def marked(value: str) -> list[str]:
    """Command lines of all processes whose environment holds MARK=value, zombies aside."""
    return list(_commands(value).values())


def pids_of(value: str, part: str) -> list[int]:
    """Process ids of those whose command line has `part`."""
    return [pid for pid, command in _commands(value).items() if part in command]


def _commands(value: str) -> dict[int, str]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it has ended, or is another user's
            continue
        if f"{MARK}={value}".encode() in environment and command:
            found[int(folder.name)] = command.replace(b"\0", b" ").decode()
    return found
