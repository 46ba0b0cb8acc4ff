"""Anchors: copies of signed seals outside of our reach, so that rewriting the whole chain is found out.

A folder (best on storage that writes once), or an address that takes `PUT <url>/<number>.json` and answers `GET` with
what it holds. What is there is never written over: of a number the first seal stays, so whoever seals it anew is found
out, also where the copies cannot be listed. Copies hold the record as it was signed.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from gatemeter.processors.sealing.chain import Seal, SealsRecord
from gatemeter.schemas import signing

TIMEOUT_SECONDS: Final = 30.0


class AnchorError(Exception):
    """An anchor cannot be reached, refuses, or holds something else; the text names it."""


def anchor_name(seal: Seal) -> str:
    """Name of a seal's copy."""
    return name_of_number(seal.number)


def name_of_number(number: int) -> str:
    """Name of the copy of the seal with this number."""
    return f"{number}.json"


def anchor_text(seal: Seal) -> bytes:
    """The signed record as JSON: value and signature in hex, key id; and what it says, for people."""
    content = {
        "number": seal.number,
        "seal_id": seal.seal_id.hex(),
        "kid": seal.kid,
        "value": seal.value.hex(),
        "signature": seal.signature.hex(),
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def record_of_copy(text: bytes) -> SealsRecord:
    """The record that a copy holds (its offset is unknown: −1). Raises `ValueError` where it holds none."""
    try:
        content: Mapping[str, Any] = json.loads(text)
        headers = {
            signing.KID_HEADER: str(content["kid"]).encode(),
            signing.SIGNATURE_HEADER: bytes.fromhex(content["signature"]),
        }
        return SealsRecord(-1, bytes.fromhex(content["value"]), headers)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not the copy of a seal: {error}") from error


class Anchor(Protocol):
    """A place for copies. Both methods raise `AnchorError`."""

    name: str

    def get(self, name: str) -> bytes | None:
        """What it holds under a name; None for nothing."""

    def put(self, name: str, text: bytes) -> None:
        """Keeps a copy. Where the name is taken, nothing is written."""


class FolderAnchor:
    """A folder; made if it is missing."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder

    def get(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AnchorError(f"anchor {self.name}: {name}: {error.strerror}") from error

    def put(self, name: str, text: bytes) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft = self._folder / f".{name}.{os.getpid()}"
            with draft.open("wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, self._folder / name)  # never over what is there
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        except OSError as error:
            raise AnchorError(f"anchor {self.name}: {name}: {error.strerror}") from error


class UrlAnchor:
    """An address of objects, http or https; no method waits longer than `timeout_seconds` for a sign of life."""

    def __init__(self, url: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        parts = urlsplit(url)
        if not parts.netloc or parts.query or parts.fragment or not url.isascii():
            raise AnchorError(f"anchor {url}: must be http(s)://HOST/PATH without a query, in ASCII")
        self.name = url.rstrip("/")
        self._timeout_seconds = timeout_seconds

    def get(self, name: str) -> bytes | None:
        try:
            return self._call("GET", name, None)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (403, 404, 410):  # object stores answer 403 for what is not there
                return None
            raise AnchorError(f"anchor {self.name}: GET {name}: {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise AnchorError(f"anchor {self.name}: GET {name}: {_why(error)}") from error

    def put(self, name: str, text: bytes) -> None:
        try:
            self._call("PUT", name, text)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 412:  # it is there already
                raise AnchorError(f"anchor {self.name}: PUT {name}: {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise AnchorError(f"anchor {self.name}: PUT {name}: {_why(error)}") from error

    def _call(self, method: str, name: str, text: bytes | None) -> bytes:
        headers = {"If-None-Match": "*", "Content-Type": "application/json"} if method == "PUT" else {}
        request = urllib.request.Request(f"{self.name}/{name}", text, headers, method=method)
        with urllib.request.urlopen(request, timeout=self._timeout_seconds) as answer:
            content: bytes = answer.read()
            return content


def _why(error: Exception) -> str:
    """In one line, whatever the other side sent."""
    return " ".join(str(error).split()) or type(error).__name__


def anchor_at(place: str) -> Anchor:
    """The anchor that a setting names: http://…, https://… or a folder. Raises `AnchorError` for a wrong address."""
    return UrlAnchor(place) if urlsplit(place).scheme in ("http", "https") else FolderAnchor(Path(place))


def anchor_seals(anchor: Anchor, seals: Sequence[Seal]) -> int:
    """Copies the seals that the anchor lacks, oldest first, and says how many.

    It looks from the last seal back to the first one that is there: seals are copied in order, so all before it are.
    Raises `AnchorError`, also where the anchor holds something else under a seal's name, or does not hold what it took.
    """
    lacking = []
    for seal in reversed(seals):
        if _holds(anchor, seal):
            break
        lacking.append(seal)
    for seal in reversed(lacking):
        anchor.put(anchor_name(seal), anchor_text(seal))
        if not _holds(anchor, seal):
            raise AnchorError(f"anchor {anchor.name}: {anchor_name(seal)}: it took the copy and does not hold it")
    return len(lacking)


def _holds(anchor: Anchor, seal: Seal) -> bool:
    name = anchor_name(seal)
    text = anchor.get(name)
    if text is None:
        return False
    try:
        is_same = record_of_copy(text).value == seal.value
    except ValueError as error:
        raise AnchorError(f"anchor {anchor.name}: {name}: {error}") from error
    if not is_same:
        raise AnchorError(
            f"anchor {anchor.name}: {name} is the copy of another seal than {seal.seal_id.hex()}: run gatemeter audit"
        )
    return True
