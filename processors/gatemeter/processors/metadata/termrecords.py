"""Records of the terms of statements (commitments, exchange rates, budgets) as entries; they change no fact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from gatemeter.processors.metadata.entries import MetadataError
from gatemeter.sinks.terms.budgets import budget_of
from gatemeter.sinks.terms.commitments import commitment_of
from gatemeter.sinks.terms.dated import Term, TermError
from gatemeter.sinks.terms.exchange import fx_rate_of

Builder = Callable[[Mapping[str, Any]], Term]

TERM_IDS: Final = {"Commitment": "commitment_id", "FxRate": "pair", "Budget": "budget_id"}
"""Kind → the field that is its id."""


def _checked(build: Builder) -> Builder:
    def checked(datum: Mapping[str, Any]) -> Term:
        try:
            return build(datum)
        except TermError as error:
            raise MetadataError(str(error)) from error

    return checked


TERM_BUILDERS: Final[dict[str, Builder]] = {
    "Commitment": _checked(commitment_of),
    "FxRate": _checked(fx_rate_of),
    "Budget": _checked(budget_of),
}
