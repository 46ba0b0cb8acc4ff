"""What a user can mend becomes one line on stderr and an exit code; anything else is a bug and keeps its trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Final, ParamSpec, TypeVar

import typer

from gatemeter.cli.screen import screen

P = ParamSpec("P")
T = TypeVar("T")

Failures = Mapping[int, tuple[type[Exception], ...]]
"""Exit code → the errors that end with it."""

errors: Final = screen(stderr=True, soft_wrap=True)


def one_line_errors_of(failures: Failures) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Makes the decorator of a command that may end with these failures."""
    expected = tuple(kind for kinds in failures.values() for kind in kinds)

    def guarding(command: Callable[P, T]) -> Callable[P, T]:
        @wraps(command)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return command(*args, **kwargs)
            except expected as error:
                errors.print(f"error: {error}", markup=False)
                code = next(code for code, kinds in failures.items() if isinstance(error, kinds))
                raise typer.Exit(code) from error

        return guarded

    return guarding
