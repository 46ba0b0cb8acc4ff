"""`gatemeter reprice`: price what was used again with another rate card, as corrections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli import operator_options as ops
from gatemeter.cli.correcting import (
    AsJson,
    DryRun,
    EventsTopic,
    From,
    To,
    Way,
    Why,
    Yes,
    carry_out,
    one_line_errors,
    usage_hours,
)
from gatemeter.processors.corrections.reprice import Repricing, Wanted, published_cards
from gatemeter.processors.metadata.cards import RateCard
from gatemeter.processors.metadata.log import MetadataLog
from gatemeter.processors.metadata.reading import read_metadata
from gatemeter.processors.metadata.records import entry_of
from gatemeter.processors.pricing.cards import load_card
from gatemeter.schemas.codec import Decoded
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC
from gatemeter.sinks.clickhouse import connect


@one_line_errors
def reprice(
    rate_card: Annotated[str, typer.Option("--rate-card", help="Card file, or the id of a published card.")],
    first: From,
    before: To,
    reason: Why,
    provider: Annotated[str, typer.Option("--provider", help="One provider; all if not given.")] = "",
    model: Annotated[str, typer.Option("--model", help="One model, by which it is priced; all if not given.")] = "",
    tenant: Annotated[str, typer.Option("--tenant", help="One tenant; all if not given.")] = "",
    over_manual: Annotated[
        bool, typer.Option("--over-manual", help="Price also what was set by hand; it stays if not given.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
    bootstrap: ops.Bootstrap = ops.DEFAULT_BOOTSTRAP,
    operator_key: ops.OperatorKeyFile = ops.DEFAULT_OPERATOR_KEY,
    operator_keys: ops.OperatorKeysFile = None,
    kafka_config: ops.KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
    metadata_topic: ops.MetadataTopic = METADATA_TOPIC,
) -> None:
    """Price usage of some hours again with a rate card and the charge plan that applied; post what differs.

    Example: gatemeter reprice --rate-card card.json --from 2026-11-01 --to 2026-12-01 --reason "contract" --dry-run
    """
    wanted = Wanted(usage_hours(first, before), provider, model, tenant, over_manual)
    where = ch.settings(url, user, password, password_file, database)
    connection = ops.connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic, metadata_topic)
    log = read_metadata(bootstrap, connection.trusted, topic=metadata_topic, client=connection.client).log
    client = connect(where)
    try:
        repricing = Repricing(client, log, _cards(rate_card, log), wanted)
        carry_out(
            connection,
            where,
            lambda run_id: repricing.rows(run_id, reason),
            repricing.summary,
            Way(dry_run, yes, as_json),
        )
    finally:
        client.close()


def _cards(rate_card: str, log: MetadataLog) -> list[RateCard]:
    path = Path(rate_card)
    if not path.is_file():
        return published_cards(log, rate_card)
    draft = load_card(path)
    card = entry_of(Decoded(draft.name, dict(draft.datum)))
    assert isinstance(card, RateCard)
    return [card]
