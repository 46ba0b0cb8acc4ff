"""What the commands that look at rates share: cards by file or id, the published metadata, and errors as one line.

They answer by their exit code (1 is an answer), so that what a user must mend ends with exit code 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli.one_line import one_line_errors_of
from gatemeter.cli.operator_options import client_settings
from gatemeter.processors.corrections.rows import CorrectionError
from gatemeter.processors.metadata.entries import MetadataError
from gatemeter.processors.metadata.log import MetadataProblem
from gatemeter.processors.metadata.operators import load_operator_keys
from gatemeter.processors.metadata.reading import MetadataCopy, MetadataUnreachable, read_metadata
from gatemeter.processors.metadata.records import entry_of
from gatemeter.processors.metadata.views import RateCard
from gatemeter.processors.pricing.cards import load_card
from gatemeter.schemas.codec import Decoded
from gatemeter.schemas.signing import SecretsError

PublicKeys = Annotated[
    Path,
    typer.Option(
        "--operator-keys",
        envvar="GATEMETER_OPERATOR_KEYS_FILE",
        help="Public keys of all operators (gatemeter operators init).",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")]

DEFAULT_PUBLIC_KEYS: Final = Path("operators.json")
_FAILURES: Final = (MetadataError, MetadataProblem, MetadataUnreachable, SecretsError, CorrectionError)
one_line_errors = one_line_errors_of({2: (*ch.FAILURES, *_FAILURES)})


def read_published(bootstrap: str, operator_keys: Path, kafka_config: Path | None, metadata_topic: str) -> MetadataCopy:
    """What the metadata topic holds, by public keys alone. Raises `SecretsError`, `MetadataUnreachable`."""
    trusted = load_operator_keys(operator_keys)
    return read_metadata(bootstrap, trusted, topic=metadata_topic, client=client_settings(kafka_config))


def card_of_file(path: Path) -> RateCard:
    """A card file, ready for lookups. Raises `FileError`."""
    draft = load_card(path)
    card = entry_of(Decoded(draft.name, dict(draft.datum)))
    assert isinstance(card, RateCard)
    return card
