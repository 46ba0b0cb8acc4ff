"""`gatemeter rates build|apply`: an immutable rate card from public prices and contracts, and into force."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatemeter.cli.operator_options import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_OPERATOR_KEY,
    Bootstrap,
    EventsTopic,
    KafkaConfig,
    MetadataTopic,
    OperatorKeyFile,
    OperatorKeysFile,
    Reason,
    connect,
    console,
    one_line_errors,
    report,
)
from gatemeter.processors.metadata.reading import read_metadata
from gatemeter.processors.pricing.cards import check_immutable, load_card, save_card
from gatemeter.processors.pricing.ratesfile import build_card
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC


@one_line_errors
def rates_build(
    file: Annotated[Path, typer.Argument(help="YAML file, see examples/rates.yaml.")],
    out: Annotated[Path, typer.Option("--out", help="Card file to write (JSON).")] = Path("card.json"),
    left_out: Annotated[bool, typer.Option("--left-out", help="List each public price that the card lacks.")] = False,
) -> None:
    """Build a rate card from the pinned public prices and a rates file, without a network.

    The same file and the same pinned prices give the same content hash.

    Example: gatemeter rates build examples/rates.yaml --out card.json --left-out
    """
    card = build_card(file)
    save_card(out, card.datum)
    rates = card.datum["rates"]
    models = {(line["provider"], line["model"]) for line in rates}
    console.print(f"{out}: card {card.datum['card_id']}, {len(models)} model ids, {len(rates)} prices", markup=False)
    console.print(f"source: {card.datum['source']}", markup=False)
    console.print(f"content hash: {card.datum['content_hash']}")
    console.print(
        f"left out: {len(card.left_out)} public prices that cannot be said exactly; usage of them is unpriced"
    )
    for entry in card.left_out if left_out else ():
        console.print(f"  {entry.provider} {entry.model}: {entry.why}", markup=False)


@one_line_errors
def rates_apply(
    card: Annotated[Path, typer.Argument(help="Card file that `gatemeter rates build` wrote.")],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
    reason: Reason = "",
) -> None:
    """Publish a rate card and put it in force in every partition. A published card never changes.

    Example: gatemeter rates apply card.json --operator-key operator.json
    """
    draft = load_card(card)
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic, metadata_topic)
    published = read_metadata(
        connection.bootstrap, connection.trusted, topic=connection.metadata_topic, client=connection.client
    )
    check_immutable(draft, published)
    report(connection.apply([draft], reason))
