"""ClickHouse's HTTP interface over the embedded engine: authentication, one query a request, errors as the server's."""

from __future__ import annotations

import asyncio
import hmac
import json
import uuid
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gatemeter.sinks.local.engine import Engine, EngineError, Result
from gatemeter.sinks.local.errors import REQUIRED_PASSWORD, UNKNOWN_USER_OR_PASSWORD, FrontError, http_status
from gatemeter.sinks.local.requests import MAX_STATEMENT_BYTES, read_statement


@dataclass(frozen=True, slots=True)
class Credentials:
    """The one user of the embedded server."""

    user: str
    password: str


class Front:
    """Handles `GET /ping` (open to all), and queries for the one user. `spool`: folder for data on its way in."""

    def __init__(self, engine: Engine, credentials: Credentials, spool: Path) -> None:
        self._engine = engine
        self._credentials = credentials
        self._spool = spool

    def application(self) -> web.Application:
        """The aiohttp application. Run it with `auto_decompress=False`: bodies are unpacked here."""
        app = web.Application(client_max_size=MAX_STATEMENT_BYTES)  # of forms; bodies are streamed
        app.router.add_get("/ping", self._ok)
        app.router.add_get("/replicas_status", self._ok)
        app.router.add_route("*", "/", self._query)
        return app

    async def _ok(self, _: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _query(self, request: web.Request) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD", "POST"):
            return web.Response(status=405, text=f"{request.method}: must be GET or POST\n")
        if request.method != "POST" and "query" not in request.query:
            return web.Response(text="Ok.\n")
        query_id = request.query.get("query_id") or str(uuid.uuid4())
        try:
            self._authenticate(request)
            return await self._answer(request, query_id)
        except (FrontError, EngineError) as error:
            return self._failure(request, error, query_id)
        except ConnectionError:  # the client went away in the middle of its request: nothing of it was applied
            return web.Response(status=400)

    async def _answer(self, request: web.Request, query_id: str) -> web.Response:
        statement = await read_statement(request, self._spool)
        try:
            loop = asyncio.get_running_loop()
            result = await loop.run_in_executor(self._engine.pool, self._engine.run, statement.query)
        finally:
            if statement.data_file is not None:
                statement.data_file.unlink()
        headers = self._headers(query_id) | {"X-ClickHouse-Summary": _summary(result)}
        if result.body:  # a statement without a result names no format, as with the server
            headers["X-ClickHouse-Format"] = statement.query.format
        return web.Response(body=result.body, headers=headers, content_type="text/plain")

    def _headers(self, query_id: str) -> dict[str, str]:
        return {
            "X-ClickHouse-Server-Display-Name": "gatemeter-embedded",
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": "UTC",
        }

    def _failure(self, request: web.Request, error: FrontError | EngineError, query_id: str) -> web.Response:
        headers = self._headers(query_id) | {"X-ClickHouse-Exception-Code": str(error.code)}
        if error.code == REQUIRED_PASSWORD:
            headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        text = f"{error} (version {self._engine.version})\n"
        response = web.Response(status=http_status(error.code), text=text, headers=headers)
        if not request.content.at_eof():  # the rest of the body is not read: this connection cannot go on
            response.force_close()
        return response

    def _authenticate(self, request: web.Request) -> None:
        user, password = _given_credentials(request)
        if not password:
            message = f"{user}: Authentication failed: password is required"
            raise FrontError(REQUIRED_PASSWORD, message, "REQUIRED_PASSWORD")
        same_user = hmac.compare_digest(user.encode(), self._credentials.user.encode())
        same_password = hmac.compare_digest(password.encode(), self._credentials.password.encode())
        if not (same_user and same_password):
            message = f"{user}: Authentication failed: password is incorrect, or there is no user with such name."
            raise FrontError(UNKNOWN_USER_OR_PASSWORD, message, "AUTHENTICATION_FAILED")


def _given_credentials(request: web.Request) -> tuple[str, str]:
    """User and password from ClickHouse's headers, basic authentication or the URL, in this order."""
    headers, query = request.headers, request.query
    if "X-ClickHouse-User" in headers or "X-ClickHouse-Key" in headers:
        return headers.get("X-ClickHouse-User", "default"), headers.get("X-ClickHouse-Key", "")
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = b64decode(value, validate=True).decode().partition(":")
        except (Base64Error, UnicodeDecodeError) as error:
            message = f"Authorization header: not valid basic authentication: {error}"
            raise FrontError(UNKNOWN_USER_OR_PASSWORD, message, "AUTHENTICATION_FAILED") from error
        return user, password
    return query.get("user", "default"), query.get("password", "")


def _summary(result: Result) -> str:
    numbers = {
        "read_rows": result.read_rows,
        "read_bytes": result.read_bytes,
        "written_rows": result.written_rows,
        "written_bytes": 0,
        "total_rows_to_read": 0,
        "result_rows": result.written_rows,
        "result_bytes": len(result.body),
        "elapsed_ns": result.elapsed_ns,
    }
    return json.dumps({name: str(number) for name, number in numbers.items()})
