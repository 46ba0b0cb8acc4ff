"""A broken file is one clear error and counts nowhere; a broken row is listed, and the rest is read."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gatemeter.sinks.billing import FileBroken, MappingInvalid, NotThisFormat
from support.billing import FOCUS_COLUMNS, focus_csv, focus_row, imported, openai_cost, openai_page, wrote

PAGE = openai_page(openai_cost(), openai_cost(2))
SECRET = "sk-proj-" + "a1B2" * 10


@pytest.mark.parametrize(
    ("form", "content", "why"),
    [
        ("openai-costs", b"", "is empty"),
        ("focus", b"\xef\xbb\xbf\r\n", "is empty"),
        ("focus", gzip.compress(focus_csv(focus_row()).encode())[:-9], "is cut off"),
        ("focus", gzip.compress(b"")[:12], "is cut off"),
        ("focus", b"PK\x03\x04....", "is a zip archive: unpack it first"),
        ("focus", focus_csv(focus_row()).encode("utf-16"), "is text in UTF-16"),
        ("focus", b"a,b\x00c\n", "is neither text nor Parquet"),
        ("aws-cur", b"PAR1 and nothing else", "cannot be read as Parquet"),
        ("openai-costs", json.dumps(PAGE)[:-30].encode(), "is cut off or no JSON"),
        ("openai-costs", b'{"data": NaN}', "NaN is no number of JSON"),
        ("openai-costs", b"[" + json.dumps(PAGE).encode(), "its array has no end"),
        ("openai-costs", b"[1] 2", "expected pages"),
        ("openai-costs", b"[" * 100_000, "nested too deeply"),
        ("focus", b"BilledCost,x,x\n", "columns must have names of their own, x is there twice"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, form: str, content: bytes, why: str) -> None:
    path = wrote(tmp_path / "bill.csv", content)
    with pytest.raises((FileBroken, NotThisFormat), match=why) as caught:
        imported(form, path)
    assert "bill.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("form", "content", "why"),
    [
        ("focus", json.dumps(PAGE), "expected focus, which has ChargePeriodStart, .*looks like openai-costs"),
        ("anthropic-cost", json.dumps(PAGE), "looks like openai-costs"),
        ("openai-usage", json.dumps(PAGE), "num_model_requests or .*looks like openai-costs"),
        ("openai-csv", focus_csv(focus_row()), "looks like focus"),
        ("openai-costs", focus_csv(focus_row()), "comes as json; it is csv; it looks like focus"),
        ("aws-cur", "day;amount\n1;2\n", "found day;amount"),
        ("openai-costs", '{"rows": []}', "pages with a list 'data'"),
        ("openai-csv", json.dumps(PAGE), "comes as csv; it is json; it looks like openai-costs"),
    ],
)
def test_a_file_of_another_format_says_what_was_expected_and_found(
    tmp_path: Path, form: str, content: str, why: str
) -> None:
    with pytest.raises(NotThisFormat, match=why):
        imported(form, wrote(tmp_path / "bill", content))


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(tmp_path: Path) -> None:
    bomb = wrote(tmp_path / "bomb.csv.gz", gzip.compress(focus_csv(focus_row()).encode() + b"\n" * 20_000_000))
    assert bomb.stat().st_size < 50_000
    with pytest.raises(FileBroken, match="unpacks to more than 1,000,000 bytes"):
        imported("focus", bomb, max_unpacked=1_000_000)
    table = pa.table({name: ["x" * 50] * 50_000 for name in FOCUS_COLUMNS})
    pq.write_table(table, tmp_path / "bomb.parquet", use_dictionary=False)
    with pytest.raises(FileBroken, match="unpacks to more than 1,000 bytes"):
        imported("focus", tmp_path / "bomb.parquet", max_unpacked=1_000)


def test_byte_order_mark_crlf_and_quoted_line_ends_are_read(tmp_path: Path) -> None:
    text = focus_csv(focus_row(ChargeDescription='two\r\nlines, "quoted"'), focus_row(BilledCost=""), end="\r\n")
    found = imported("focus", wrote(tmp_path / "f.csv", b"\xef\xbb\xbf" + text.encode()))
    assert [line.source_line for line in found.lines] == [2]
    assert "two\\r\\nlines" in found.lines[0].raw
    assert [(bad.place, bad.field, bad.reason) for bad in found.rejected] == [
        ("4", "amount", "must be given, got nothing")
    ]


def test_pages_may_follow_each_other_be_in_an_array_or_be_packed(tmp_path: Path) -> None:
    one, two = json.dumps(PAGE), json.dumps(openai_page(openai_cost(7), start=1_793_577_600) | {"has_more": True})
    for content in (f"{one}\n{two}\n", f"[{one}, {two}]", gzip.compress(f"{one} {two}".encode()), f"\ufeff{one}{two}"):
        found = imported("openai-costs", wrote(tmp_path / "pages", content))
        assert [line.amount for line in found.lines] == [Decimal("1.25"), 2, 7]
        assert len(found.outcome.covered) == 2
        assert found.outcome.notes == ["pages: its last page has_more: the file is not all of the report"]


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"BilledCost": "1,5"}, "amount", "must be a number"),
        ({"BilledCost": "NaN"}, "amount", "must be a number"),
        ({"BilledCost": "1e27"}, "amount", "must be within"),
        ({"BilledCost": "NULL"}, "amount", "must be given"),
        ({"BillingCurrency": ""}, "currency", "must be an ISO 4217 code"),
        ({"BillingCurrency": "BTC"}, "currency", "must be an ISO 4217 code such as USD, got 'BTC'"),
        ({"ChargeCategory": "Gift"}, "charge_category", "must mean one of usage, tax"),
        ({"ChargePeriodStart": "yesterday"}, "starts_at", "must be a time such as"),
        ({"ChargePeriodStart": "0001-01-01T00:00:00Z"}, "starts_at", "must be within 2015 to 2099"),
        ({"ChargePeriodStart": ""}, "starts_at", "must be given"),
        ({"ChargePeriodEnd": "2026-11-02T00:00:00Z"}, "ends_at", "must not be before starts_at"),
        ({"ConsumedQuantity": "many"}, "quantity", "must be a number"),
        ({"ConsumedUnit": "Litres"}, "unit", "must be one of"),
        ({"ProviderName": ""}, "provider", "must be given"),
    ],
)
def test_a_row_that_cannot_be_read_names_field_and_reason(
    tmp_path: Path, changes: dict[str, str], field: str, why: str
) -> None:
    path = wrote(tmp_path / "f.csv", focus_csv(focus_row(), focus_row(**changes), focus_row()))
    found = imported("focus", path)
    assert [line.line for line in found.lines] == [1, 2]
    (bad,) = found.rejected
    assert (bad.line, bad.field) == (3, field)
    assert why in bad.reason


def test_rows_that_are_no_rows_are_listed(tmp_path: Path) -> None:
    good = focus_csv(focus_row()).encode()
    short, stray, latin = b"1,2\n", b'"a"b,c\n', good.split(b"\n")[1].replace(b"b-1", b"caf\xe9") + b"\n"
    found = imported("focus", wrote(tmp_path / "f.csv", good + short + stray + latin + good.split(b"\n")[1] + b"\n"))
    assert len(found.lines) == 2
    assert [(bad.line, bad.field, bad.reason.split(" ")[0]) for bad in found.rejected] == [
        (3, "row", "must"),
        (4, "row", "cannot"),
        (5, "BillingAccountId", "must"),
    ]
    mixed = [focus_row(), 5, focus_row(BilledCost="x")]
    found = imported("focus", wrote(tmp_path / "f.json", mixed))
    assert [(bad.line, bad.field) for bad in found.rejected] == [(2, "row"), (3, "amount")]
    page = openai_page(openai_cost(), 5, openai_cost("?"), openai_cost(None))  # type: ignore[arg-type]
    page["data"].append("bucket")
    found = imported("openai-costs", wrote(tmp_path / "p.json", page))
    assert [(bad.line, bad.field) for bad in found.rejected] == [
        (2, "results"),
        (3, "amount"),
        (4, "amount"),
        (5, "data"),
    ]
    assert len(found.lines) == 1


def test_a_column_that_is_none_of_accounts_does_not_fill_the_machine(tmp_path: Path) -> None:
    rows = [focus_row(BillingAccountId=f"b-{number}") for number in range(3_000)]
    rows.append(focus_row(ChargePeriodStart="2026-05-01T00:00:00Z", ChargePeriodEnd="2026-05-02T00:00:00Z"))
    with pytest.raises(FileBroken, match="3,000 accounts of 187 days: at most 500,000 together"):
        imported("focus", wrote(tmp_path / "f.csv", focus_csv(*rows)))


def test_a_long_text_does_not_make_patterns_slow(tmp_path: Path) -> None:
    row = focus_row(SkuMeter="a batch " * 15_000, ChargeDescription="gemini " * 15_000)
    found = imported("focus", wrote(tmp_path / "f.csv", focus_csv(row)))
    assert found.lines[0].model == ""


def test_numbers_of_json_and_parquet_never_pass_through_a_float(tmp_path: Path) -> None:
    text = json.dumps(openai_page(openai_cost(0))).replace('"value": 0', '"value": 12345678901234.123456789012')
    (line,) = imported("openai-costs", wrote(tmp_path / "c.json", text)).lines
    assert line.amount == Decimal("12345678901234.123456789012")
    row: dict[str, Any] = focus_row() | {"BilledCost": Decimal("0.1234567890125"), "ListCost": 0.1}
    pq.write_table(
        pa.Table.from_pylist([row, row | {"BilledCost": Decimal("0.1230000000000")}]), tmp_path / "f.parquet"
    )
    found = imported("focus", tmp_path / "f.parquet")
    assert [line.amount for line in found.lines] == [Decimal("0.123456789012"), Decimal("0.123")]
    assert found.outcome.rounded == 1, "half-even, once, and told"
    assert found.lines[0].list_amount == Decimal("0.1")


def test_a_key_in_an_export_is_stored_and_shown_nowhere(tmp_path: Path) -> None:
    page = openai_page(
        openai_cost(api_key_id=SECRET, project_id=f"p {SECRET}", line_item=f"Bearer {SECRET}"),
        openai_cost("x", api_key_id=SECRET),
        openai_cost(f"{SECRET}"),
    )
    found = imported("openai-costs", wrote(tmp_path / "c.json", page))
    assert len(found.lines) == 1
    assert len(found.rejected) == 2
    assert SECRET not in repr(found)
    assert SECRET[8:30] not in repr(found)
    assert found.lines[0].key_id.startswith("[key sha256:")
    csv_file = focus_csv(
        focus_row(ChargeDescription=SECRET), focus_row(BilledCost=SECRET), focus_row(Tags=f'{{"k":"{SECRET}"}}')
    )
    found = imported("focus", wrote(tmp_path / "f.csv", csv_file))
    assert len(found.lines) == 2
    assert SECRET not in repr(found)
    with pytest.raises(NotThisFormat) as caught:
        imported("focus", wrote(tmp_path / "k.csv", f"{SECRET},b\n1,2\n"))
    assert SECRET[:20] not in str(caught.value)


def test_the_same_file_twice_in_one_import_is_refused(tmp_path: Path) -> None:
    one, two = (wrote(tmp_path / name, focus_csv(focus_row())) for name in ("one.csv", "two.csv"))
    with pytest.raises(FileBroken, match=r"two\.csv: is the same as one\.csv"):
        imported("focus", one, two)


def test_parts_of_a_report_are_one_import(tmp_path: Path) -> None:
    one = wrote(tmp_path / "one.csv", focus_csv(focus_row(), focus_row(BilledCost="x")))
    two = wrote(tmp_path / "two.csv", focus_csv(focus_row(BilledCost="2"), focus_row(BilledCost="y")))
    found = imported("focus", one, two)
    assert [(line.line, line.amount) for line in found.lines] == [(1, Decimal("1.5")), (2, 2)]
    assert [(bad.place, bad.line) for bad in found.rejected] == [("one.csv:3", 3), ("two.csv:3", 6)]
    assert found.outcome.identity.import_id == imported("focus", two, one).outcome.identity.import_id


def test_each_part_is_of_the_format_and_has_columns_of_its_own(tmp_path: Path) -> None:
    one = wrote(tmp_path / "one.csv", focus_csv(focus_row()))
    with pytest.raises(NotThisFormat, match=r"two: expected focus, .*looks like openai-costs"):
        imported("focus", one, wrote(tmp_path / "two", PAGE))
    more = focus_row(BilledCost="2") | {"SubAccountId": "sub-1"}
    header, row = (",".join(cells) for cells in (more, more.values()))
    found = imported("focus", one, wrote(tmp_path / "more.csv", f"{header}\n{row}\n"))
    assert [(line.project, line.model) for line in found.lines] == [
        ("", "gpt-4o-2024-11-20"),
        ("sub-1", "gpt-4o-2024-11-20"),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("content = 5", "content: must be one of 'cost', 'usage', 'cost_and_usage', got 5"),
        ("= 1", "is not TOML"),
        ("colums = 1", "colums: is not known; known are bucket, calendar"),
        ("[[patterns]]\ncolumns = 'a'\nmatch = '('", "patterns.0..match: is not a regular expression"),
        ("[[patterns]]\ncolumns = 'a'\nmatch = '(?P<price>.)'", "cannot give 'price'; can give charge_category"),
        ("[columns]\nprice = 'a'", "columns.price: must be one of 'provider'"),
        ("[values.token_type]\na = 'words'", "values.token_type.a: must be one of ''"),
        ("[units]\na = 0", "units.a: must be a number of 1e-9 to 1e12, got 0"),
        ("[exponents]\namount = 2.5", "exponents.amount: must be a whole number"),
        ("calendar = 'Mars'", "calendar: must be a time zone such as"),
        ("covers = 'period'\n[columns]\nstarts_at = 'a'\namount = 'b'\ncurrency = 'c'", "needs columns.period_start"),
        ("[columns]\nstarts_at = 'a'", "columns.amount: must be given where content is 'cost'"),
        ("[[measures]]\ntoken_type = 'output_total'\nplus = 5", "measures.0..plus: must be a text or a list of texts"),
    ],
)
def test_a_wrong_mapping_names_the_key_and_what_is_accepted(tmp_path: Path, text: str, why: str) -> None:
    given = "".join(
        f"{line}\n"
        for line in ("content = 'cost'", "covers = 'seen'", "provider = 'x'", "required = 'a'")
        if not text.startswith(line.split(" ")[0])
    )
    path = wrote(tmp_path / "own.toml", given + text)
    with pytest.raises(MappingInvalid, match=f"^own.toml: .*{why}"):
        imported("focus", wrote(tmp_path / "f.csv", focus_csv(focus_row())), mapping=path)


def test_a_mapping_of_ones_own_reads_any_table(tmp_path: Path) -> None:
    own = wrote(
        tmp_path / "own.toml",
        """
        provider = "mistral"
        content = "cost"
        covers = "seen"
        calendar = "Europe/Paris"
        required = ["Jour", "Montant"]
        [columns]
        starts_at = "Jour"
        amount = "Montant"
        currency = "Devise"
        line_item = "Poste"
        [exponents]
        amount = -2
        [values.model]
        large = "mistral-large-latest"
        [[patterns]]
        columns = "Poste"
        match = '^(?P<model>\\w+) entr'
        set = { token_type = "input_total" }
        """,
    )
    rows = "Jour,Montant,Devise,Poste\n2026-11-01,150,eur,large entrées\n2026-11-03,-5,eur,Avoir\n"
    found = imported("focus", wrote(tmp_path / "f.csv", rows), mapping=own)
    first, second = found.lines
    assert (first.model, first.token_type, first.amount) == ("mistral-large-latest", "input_total", Decimal("1.5"))
    assert (second.amount, second.currency, second.provider) == (Decimal("-0.05"), "EUR", "mistral")
    assert first.starts_us == 1_793_487_600 * 1_000_000, "the day begins in Paris"
    assert [str(covered.billing_day) for covered in found.outcome.covered] == ["2026-11-01", "2026-11-02", "2026-11-03"]


def test_a_charge_of_a_month_before_is_billed_within_the_period_that_bills_it(tmp_path: Path) -> None:
    columns = {"BillingPeriodStart": "2026-11-01T00:00:00Z", "BillingPeriodEnd": "2026-12-01T00:00:00Z"}
    rows = [
        focus_row() | columns,
        focus_row(ChargePeriodStart="2026-10-20T00:00:00Z", ChargePeriodEnd="2026-10-21T00:00:00Z") | columns,
    ]
    found = imported("focus", wrote(tmp_path / "f.json", rows))
    assert [str(line.billing_day) for line in found.lines] == ["2026-11-03", "2026-11-01"]
    days = {str(covered.billing_day) for covered in found.outcome.covered}
    assert (min(days), max(days), len(days)) == ("2026-11-01", "2026-11-30", 30)
    seen = imported("focus", tmp_path / "f.json", covers="seen")
    assert seen.outcome.identity.import_id != found.outcome.identity.import_id
