"""Files at HTTP and HTTPS URLs, downloaded in bounded size and time.

A download is kept while the process runs, and used again where the server says that nothing changed (its ``ETag`` or
``Last-Modified``). A user and a password in the URL are sent to its host alone, never to where it redirects.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import shutil
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mlsys import errors
from mlsys.recipe import secrets

SCHEMES = ("http", "https")
MAX_BYTES = 1 << 33
"""Bytes of a download at most: 8 GiB."""
STALL_S, TOTAL_S = 30.0, 3600.0
"""Seconds without a byte, and seconds of a download, after which it is given up."""
UNANSWERED = (OSError, http.client.HTTPException)
"""Exceptions of a server that does not answer, or not to the end; those of ``urllib`` and time-outs are `OSError`."""
MEDIA_SUFFIXES = {
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/x-ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
    "application/json": ".json",
    "application/vnd.apache.parquet": ".parquet",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/zip": ".zip",
}
"""Media types that tell a format where the path does not."""


@dataclass(frozen=True)
class RemoteFile:
    """The answer of a server about a file: its size (0 where unknown), its state, and the suffix of its media type."""

    num_bytes: int
    state: str
    suffix: str


@dataclass(frozen=True)
class _Download:
    path: Path
    validators: dict[str, str]


_downloads: dict[str, _Download] = {}
_folder: list[tempfile.TemporaryDirectory[str]] = []


def shown(url: str) -> str:
    """A URL as a report may show it: without user, password and query.

    >>> shown("https://user:hidden@host/a.csv?token=hidden")
    'https://host/a.csv'
    """
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def probe(url: str) -> RemoteFile:
    """Ask a server about a file, without reading it."""
    try:
        with _asked(url, "HEAD") as answer:
            return _described(url, answer.headers)
    except errors.SourceError as error:
        if error.field not in {"403", "405", "501"}:  # a server that only knows GET
            raise
    with _asked(url, "GET") as answer:
        return _described(url, answer.headers)


def changed(url: str) -> str:
    """A text that changes when the file does: what the server says, or else the digest of its bytes."""
    state = probe(url).state
    if state:
        return state
    with open_url(url) as opened:
        sha = hashlib.sha256()
        while chunk := opened.read(1 << 20):
            sha.update(chunk)
    return sha.hexdigest()


def open_url(url: str) -> BinaryIO:
    """The bytes of a file, seekable; they are downloaded if there are newer ones than those that were.

    Raises
    ------
    SourceError
        The server does not answer, or not with the file; or it is too large or too slow.
    """
    known = _downloads.get(url)
    with _asked(url, "GET", known.validators if known else {}) as answer:
        if answer.status != http.client.NOT_MODIFIED or known is None:
            known = _downloads[url] = _download(url, answer)
    return known.path.open("rb")


def _download(url: str, answer: Any) -> _Download:
    """The file of an answer, written into the temporary folder; a disk that does not take it is told as that."""
    size = 0
    try:
        if not _folder:
            _folder.append(tempfile.TemporaryDirectory(prefix="mlsys-web-"))
        path = Path(_folder[0].name) / hashlib.sha256(url.encode()).hexdigest()
        beside = path.with_suffix(".part")
        with beside.open("wb") as file:
            for chunk in _chunks(url, answer):
                size += file.write(chunk)
        shutil.move(beside, path)
    except OSError as error:
        if isinstance(error, errors.MlsysError):
            raise
        raise errors.SourceError.no_room(shown(url), error, size, tempfile.gettempdir()) from None
    names = (("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since"))
    return _Download(path, {asks: answer.headers[says] for says, asks in names if answer.headers.get(says)})


def _chunks(url: str, answer: Any) -> Iterator[bytes]:
    """The bytes of an answer, within the bounds of size and time, and all of them."""
    ends_at, size = time.monotonic() + TOTAL_S, 0
    while chunk := _read(url, answer):
        size += len(chunk)
        if size > MAX_BYTES:
            raise _refused(url, f"more than {MAX_BYTES:,} bytes", "a smaller file", "download it and name its path")
        if time.monotonic() > ends_at:
            raise _refused(url, f"{size:,} bytes in {TOTAL_S:g} s", "a quicker answer", "download it yourself")
        yield chunk
    expected = answer.headers.get("Content-Length")
    if expected is not None and int(expected) != size:
        raise _refused(url, f"{size:,} of {int(expected):,} bytes", "the whole file", "run again")


def _read(url: str, answer: Any) -> bytes:
    try:
        return bytes(answer.read(1 << 20))
    except UNANSWERED as error:
        raise _unanswered(url, error) from None


def _described(url: str, headers: Any) -> RemoteFile:
    kind = (headers.get_content_type() or "").lower()
    if kind == "text/html" and not url.lower().endswith((".html", ".htm")):
        hint = "the link may lead to a page about the file, or to a login: name the address of the file itself"
        raise _refused(url, "an HTML page", "a table", hint)
    size = headers.get("Content-Length")
    state = " ".join(filter(None, (headers.get("ETag"), headers.get("Last-Modified"), size)))
    has_state = headers.get("ETag") or headers.get("Last-Modified")
    return RemoteFile(int(size or 0), state if has_state else "", MEDIA_SUFFIXES.get(kind, ""))


@contextlib.contextmanager
def _asked(url: str, method: str, headers: dict[str, str] | None = None) -> Iterator[Any]:
    """The answer of a server; every failure is a `SourceError` whose `field` is the status, if there is one."""
    parts = urllib.parse.urlsplit(url)
    user, has_user, host = parts.netloc.rpartition("@")
    bare = parts._replace(netloc=host, fragment="").geturl()
    request = urllib.request.Request(bare, method=method, headers={"User-Agent": "mlsys", **(headers or {})})  # noqa: S310  (the caller has looked at the scheme)
    if has_user:
        token = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    try:
        with urllib.request.urlopen(request, timeout=STALL_S) as answer:  # noqa: S310
            yield answer
    except urllib.error.HTTPError as error:
        if error.code == http.client.NOT_MODIFIED:
            yield error
            return
        hints = {
            401: "the URL may hold the user: https://USER:${PASSWORD}@…, with the password in the environment",
            404: "check the address",
        }
        hint = hints.get(error.code, hints[401] if error.code == 403 else "try again later")
        raise _refused(url, f"HTTP {error.code} {error.reason}", "a file", hint, str(error.code)) from None
    except UNANSWERED as error:
        if isinstance(error, errors.MlsysError):
            raise
        raise _unanswered(url, error) from None


def _unanswered(url: str, error: Exception) -> errors.SourceError:
    cause = getattr(error, "reason", None) or error
    got = f"no byte for {STALL_S:g} s" if isinstance(cause, TimeoutError) else str(cause) or type(error).__name__
    got = secrets.masked(got, secrets.values([url]))
    return _refused(url, got, "an answer", "check the address and the network")


def _refused(url: str, got: str, expected: str, hint: str, status: str = "") -> errors.SourceError:
    where = f"collect: source '{shown(url)}'"
    return errors.SourceError.build(where, got=got, expected=expected, hint=hint, field=status or None)
