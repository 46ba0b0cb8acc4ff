"""Whatever is imported in whatever order, again or not: in force are, of each day, the lines of its latest import."""

from __future__ import annotations

import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.sinks.billing import FORMATS, BillingWriter, Order, identify, read, stored
from gatemeter.sinks.clickhouse import connect
from support.billing import openai_cost, openai_page, wrote
from support.clickhouse import ClickHouse
from support.depth import depth

FIRST = date(2026, 11, 1)
START = 1_793_491_200
DAY = 86_400

# An import: its first day, and the amounts of each of its days.
IMPORT = st.tuples(st.integers(0, 4), st.lists(st.lists(st.integers(-3, 9), max_size=2), min_size=1, max_size=3))


@pytest.fixture(scope="module")
def client(clickhouse: ClickHouse) -> Iterator[Client]:
    settings = clickhouse.migrated()
    connected = connect(settings)
    yield connected
    connected.close()
    clickhouse.drop(settings)


@settings(max_examples=depth(8, 100))
@given(files=st.lists(IMPORT, min_size=1, max_size=4, unique_by=repr), order=st.data())
def test_each_day_has_the_lines_of_its_latest_import(
    client: Client, files: list[tuple[int, list[list[int]]]], order: st.DataObject
) -> None:
    account = uuid.uuid4().hex
    sequence = order.draw(st.lists(st.integers(0, len(files) - 1), min_size=1, max_size=6))
    expected: dict[int, list[int]] = {}
    done: set[int] = set()
    with tempfile.TemporaryDirectory() as folder:
        for moment, at in enumerate(sequence):
            first, days = files[at]
            counts = import_once(client, Path(folder) / f"{at}.json", files[at], account, moment)
            assert counts == (at not in done), "the same file again is known"
            if counts:
                expected |= {first + offset: amounts for offset, amounts in enumerate(days)}
            done.add(at)
    found = stored.lines(client, account=account)
    wanted = [(FIRST + timedelta(days=day), Decimal(amount)) for day, amounts in expected.items() for amount in amounts]
    assert Counter((line["billing_day"], line["amount"]) for line in found) == Counter(wanted)


def import_once(client: Client, path: Path, file: tuple[int, list[list[int]]], account: str, moment: int) -> bool:
    """Whether it was imported; not where it was before."""
    first, days = file
    page = openai_page(start=START + first * DAY, days=len(days))
    for bucket, amounts in zip(page["data"], days, strict=True):
        bucket["results"] = [openai_cost(amount) for amount in amounts]
    order = Order((wrote(path, page),), FORMATS["openai-costs"], account=account)
    identity, writer = identify(order), BillingWriter(client)
    if writer.known(identity.import_id) is not None:
        return False
    outcome = read(order, identity, writer)
    writer.finish(identity, outcome, file_name=path.name, imported_by="test", now_us=START * 1_000_000 + moment)
    return True
