"""The embedded server answers clickhouse-connect, curl and raw HTTP as a ClickHouse server does."""

from __future__ import annotations

import gzip
import json
import threading
import urllib.error
import urllib.request
import zlib
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urlencode

import clickhouse_connect
import lz4.frame
import pyarrow as pa
import pytest
from backports import zstd
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from support.clickhouse import ClickHouse


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes


class Http:
    """Raw HTTP to the front, in one database."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self.settings = settings
        self.key = {"X-ClickHouse-User": settings.user, "X-ClickHouse-Key": settings.password}

    def send(
        self,
        body: Any = b"",
        *,
        method: str = "POST",
        path: str = "/",
        headers: dict[str, str] | None = None,
        **parameters: str,
    ) -> Answer:
        parameters.setdefault("database", self.settings.database)
        url = f"{self.settings.url}{path}?{urlencode(parameters)}"
        given = self.key if headers is None else headers
        request = urllib.request.Request(url, body if method == "POST" else None, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def text(self, query: str, **parameters: str) -> str:
        answer = self.send(query.encode(), **parameters)
        assert answer.status == 200, answer.body
        return answer.body.decode().strip()


@pytest.fixture
def settings(clickhouse: ClickHouse) -> Iterator[ClickHouseSettings]:
    given = clickhouse.empty()
    admin = connect(given, database="default")
    admin.command(f"CREATE DATABASE {given.database}")
    admin.command(f"CREATE TABLE {given.database}.t (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    yield given
    clickhouse.drop(given)


@pytest.fixture
def http(settings: ClickHouseSettings) -> Http:
    return Http(settings)


@pytest.fixture
def client(settings: ClickHouseSettings) -> Iterator[Client]:
    connected = connect(settings)
    yield connected
    connected.close()


ARROW = pa.table({"a": pa.array([1, 2], pa.uint32()), "b": ["x", "y"]})


def ipc(kind: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with kind(sink, ARROW.schema) as writer:
        writer.write_table(ARROW)
    return bytes(sink.getvalue())


FORMATS = {
    "JSONEachRow": b'{"a": 1, "b": "x"}\n{"a": 2, "b": "y"}\n',
    "CSV": b'1,"x"\n2,"y"\n',
    "TabSeparated": b"1\tx\n2\ty\n",
    "Values": b"(1, 'x'), (2, 'y')",
    "Native": b"\x02\x02\x01a\x06UInt32\x01\x00\x00\x00\x02\x00\x00\x00\x01b\x06String\x01x\x01y",
    "RowBinary": b"\x01\x00\x00\x00\x01x\x02\x00\x00\x00\x01y",
    "Arrow": ipc(pa.ipc.new_file),
    "ArrowStream": ipc(pa.ipc.new_stream),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("in_url", [True, False])
def test_an_insert_takes_data_in_every_format(http: Http, name: str, in_url: bool) -> None:
    query = f"INSERT INTO t (a, b) FORMAT {name}"
    answer = http.send(FORMATS[name], query=query) if in_url else http.send(query.encode() + b"\n" + FORMATS[name])
    assert answer.status == 200, answer.body
    if name != "Values":
        assert json.loads(answer.headers["X-ClickHouse-Summary"])["written_rows"] == "2"
    assert http.text("SELECT a, b FROM t ORDER BY a FORMAT CSV") == '1,"x"\n2,"y"'


@pytest.mark.parametrize("name", [*FORMATS, "JSON", "Parquet"])
def test_a_select_gives_every_format(http: Http, name: str) -> None:
    http.text("INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    answer = http.send(b"SELECT a, b FROM t ORDER BY a", default_format=name)
    assert answer.status == 200
    if name in ("Native", "RowBinary", "TabSeparated"):
        assert answer.body == FORMATS[name]
    assert http.send(f"SELECT a, b FROM t ORDER BY a FORMAT {name}".encode()).status == 200


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("lz4", lz4.frame.compress),
        ("zstd", zstd.compress),
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
    ],
)
def test_concatenated_frames_are_all_read(http: Http, encoding: str, pack: Any) -> None:
    rows = b"".join(b"%d,x\n" % number for number in range(200_000))
    body = b"".join(pack(piece) for piece in pieces(rows, 65_536))
    headers = http.key | {"Content-Encoding": encoding}
    answer = http.send(body, headers=headers, query="INSERT INTO t FORMAT CSV")
    assert answer.status == 200, answer.body
    assert http.text("SELECT count(), sum(a) FROM t") == f"200000\t{200_000 * 199_999 // 2}"


def test_a_body_that_ends_inside_a_frame_inserts_nothing(http: Http) -> None:
    body = lz4.frame.compress(FORMATS["CSV"])[:-6]
    headers = http.key | {"Content-Encoding": "lz4"}
    answer = http.send(body, headers=headers, query="INSERT INTO t FORMAT CSV")
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (400, "271")
    assert http.text("SELECT count() FROM t") == "0"


def test_chunked_bodies_are_read(http: Http) -> None:
    answer = http.send(iter([b"INSERT INTO t FOR", b"MAT CSV\n1,", b"x\n2,y"]))
    assert answer.status == 200, answer.body
    assert http.text("SELECT count() FROM t") == "2"


@pytest.mark.parametrize(
    ("query", "status", "code", "name"),
    [
        ("SELECT * FROM nothing", 404, 60, "UNKNOWN_TABLE"),
        ("SELEC 1", 400, 62, "SYNTAX_ERROR"),
        ("SELECT nothing FROM t", 404, 47, "UNKNOWN_IDENTIFIER"),
        ("INSERT INTO nothing FORMAT CSV\n1", 404, 60, "UNKNOWN_TABLE"),
        ("INSERT INTO t FORMAT CSV\nx,y", 400, 27, "CANNOT_PARSE_INPUT_ASSERTION_FAILED"),
        ("SELECT {a:Int32}", 400, 456, "UNKNOWN_QUERY_PARAMETER"),
        ("SELECT throwIf(1)", 500, 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("", 400, 62, "SYNTAX_ERROR"),
    ],
)
def test_errors_come_as_the_server_sends_them(http: Http, query: str, status: int, code: int, name: str) -> None:
    answer = http.send(query.encode())
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (status, str(code))
    assert answer.body.startswith(f"Code: {code}. DB::Exception: ".encode())
    assert name.encode() in answer.body


def test_unknown_settings_databases_and_options_are_refused(http: Http) -> None:
    assert http.send(b"SELECT 1", no_such_setting="1").headers["X-ClickHouse-Exception-Code"] == "115"
    assert http.send(b"SELECT 1", database="nothing").headers["X-ClickHouse-Exception-Code"] == "81"
    assert http.send(b"SELECT 1", compress="1").status == 501
    assert http.send(b"x", headers=http.key | {"Content-Encoding": "rot13"}, query="SELECT 1").status == 500


def test_parameters_settings_and_sessions_come_with_the_url(http: Http) -> None:
    assert http.text("SELECT {a:UInt8} + 1, {b:String}", param_a="4", param_b="it's\\t") == "5\tit\\'s\\t"
    assert http.text("SELECT getSetting('max_threads')", max_threads="1", session_id="s", session_timeout="9") == "1"
    assert http.text("SELECT getSetting('max_threads') > 0 AND currentDatabase() != 'default'") == "1"


def test_a_setting_of_one_query_does_not_reach_the_next(http: Http) -> None:
    http.text("SET max_block_size = 77")
    http.text("USE system")
    assert http.text("SELECT getSetting('max_block_size') != 77, currentDatabase()").split("\t") == [
        "1",
        http.settings.database,
    ]


def test_a_get_reads_and_never_writes(http: Http) -> None:
    assert http.send(method="GET", query="SELECT 1").body == b"1\n"
    answer = http.send(method="GET", query="INSERT INTO t VALUES (1, 'x')")
    assert answer.headers["X-ClickHouse-Exception-Code"] == "164"
    assert http.text("SELECT count() FROM t") == "0"


def test_ping_is_open_and_everything_else_needs_the_password(http: Http) -> None:
    assert http.send(method="GET", path="/ping", headers={}).body == b"Ok.\n"
    assert http.send(method="GET", headers={}).body == b"Ok.\n"
    assert http.send(b"SELECT 1", headers={}).status == 401
    wrong = http.send(b"SELECT 1", headers={**http.key, "X-ClickHouse-Key": "wrong"})
    assert (wrong.status, wrong.headers["X-ClickHouse-Exception-Code"]) == (403, "516")
    assert http.send(b"SELECT 1", headers={**http.key, "X-ClickHouse-User": "default"}).status == 403


def test_basic_authentication_and_the_url_are_ways_to_give_the_password(http: Http) -> None:
    settings = http.settings
    pair = b64encode(f"{settings.user}:{settings.password}".encode()).decode()
    assert http.send(b"SELECT 1", headers={"Authorization": f"Basic {pair}"}).body == b"1\n"
    assert http.send(b"SELECT 1", headers={}, user=settings.user, password=settings.password).body == b"1\n"
    assert http.send(b"SELECT 1", headers={"Authorization": "Basic $$$"}).status == 403


def test_clickhouse_connect_works(client: Client) -> None:
    assert client.ping()
    assert client.query("SELECT {a:Int32}, {b:String}", {"a": 5, "b": "it's"}).result_rows == [(5, "it's")]
    assert client.insert("t", [[1, "x"], [2, "y"]], column_names=["a", "b"]).written_rows == 2
    assert client.insert_arrow("t", ARROW).written_rows == 2
    assert client.query_arrow("SELECT * FROM t ORDER BY a").num_rows == 4
    assert client.command("SELECT count() FROM t") == 4
    client.command("CREATE TABLE u AS t")
    assert client.command("EXISTS TABLE u") == 1
    with client.query_rows_stream("SELECT number FROM numbers(300000)") as rows:
        assert sum(row[0] for row in rows) == 300_000 * 299_999 // 2
    with pytest.raises(DatabaseError) as caught:
        client.query("SELECT * FROM nothing")
    assert caught.value.code == 60


def test_a_large_compressed_insert_of_clickhouse_connect_is_complete(settings: ClickHouseSettings) -> None:
    client = clickhouse_connect.get_client(
        dsn=settings.url, username=settings.user, password=settings.password, database=settings.database, compress="lz4"
    )
    client.insert("t", [[number, "x" * 20] for number in range(200_000)], column_names=["a", "b"])
    assert client.command("SELECT count() FROM t") == 200_000


def test_form_parameters_of_large_queries_are_read(settings: ClickHouseSettings) -> None:
    client = clickhouse_connect.get_client(
        dsn=settings.url, username=settings.user, password=settings.password, form_encode_query_params=True
    )
    assert client.query("SELECT length({a:String})", {"a": "x" * 100_000}).result_rows == [(100_000,)]


def test_clients_write_and_read_at_the_same_time(http: Http) -> None:
    failures: list[bytes] = []

    def write(number: int) -> None:
        answer = http.send(b"%d,x\n" % number * 100, query="INSERT INTO t FORMAT CSV")
        if answer.status != 200:
            failures.append(answer.body)

    stop = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        reader = pool.submit(lambda: [http.text("SELECT count() % 100 FROM t") for _ in iter(stop.is_set, True)])
        list(pool.map(write, range(60)))
        stop.set()
        assert set(reader.result()) <= {"0"}  # an insert is seen whole or not at all
    assert failures == []
    assert http.text("SELECT count() FROM t") == "6000"


def test_a_slow_query_does_not_hold_up_others(http: Http) -> None:
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(http.text, "SELECT sleep(2)")
        assert http.text("SELECT 1") == "1"
        assert http.send(method="GET", path="/ping").status == 200
        assert not slow.done()


def test_a_result_beyond_the_bound_is_an_error_not_a_dead_server(http: Http) -> None:
    answer = http.send(b"SELECT number FROM numbers(1000000)", max_result_bytes="1000")
    assert answer.headers["X-ClickHouse-Exception-Code"] == "396"
    assert http.text("SELECT 1") == "1"
