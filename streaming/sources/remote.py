"""Remote files (http, https, s3, gs), copied to a temporary file: the rest reads files."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeAlias
from urllib.parse import unquote, urlsplit

import xxhash

from feature_repo.errors import SourceError
from streaming.sources.packing import PIECE

_log = logging.getLogger(__name__)

WEB = ("http://", "https://")
STORES = ("s3://", "gs://")
ATTEMPTS = 4
FIRST_WAIT_S = 0.5
TIMEOUT_S = 30.0
_LEFT_S = 86_400.0
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})

Progress: TypeAlias = Callable[[Path, int, int], None]
"""Told a file, the bytes of it copied so far and its size; 0 where it is not known."""


def is_remote(name: str) -> bool:
    """Whether it names a file of another machine."""
    return name.lower().startswith((*WEB, *STORES))


def shown_url(url: str) -> str:
    """A URL for messages: without user, password, query and fragment, which may be secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def fetched(
    url: str,
    folder: Path,
    limit: int,
    progress: Progress | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[Path]:
    """A copy of a remote file, removed afterwards.

    Args:
        url: of the file.
        folder: of copies. One that an earlier process left there is removed after a day.
        limit: bytes that are copied at most.
        progress: told how far.
        wait: between attempts, seconds.

    Raises:
        SourceError: it cannot be fetched, or is larger than the limit.
    """
    sweep(folder, time.time())
    parts = urlsplit(url)
    name = Path(unquote(parts.path)).name or "download"
    # The same place for the same URL, so that a row rejected twice is kept once.
    path = folder / xxhash.xxh3_64_hexdigest(url.encode()) / name[-120:]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _copied(url, path, limit, progress, wait)
        yield path
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()


def _copied(
    url: str, path: Path, limit: int, progress: Progress | None, wait: Callable[[float], None]
) -> None:
    try:
        with path.open("wb") as file:
            _fetch(url, _Copy(file, path, shown_url(url), limit, progress), wait)
    except OSError as error:
        msg = f"{shown_url(url)}: cannot be copied to {path} ({error.strerror or error})"
        raise SourceError(msg) from error


def sweep(folder: Path, now: float) -> None:
    """Remove copies that a killed process left behind."""
    for path in folder.glob("*/*") if folder.is_dir() else ():
        with suppress(OSError):
            if now - path.stat().st_mtime > _LEFT_S:
                path.unlink()
                path.parent.rmdir()


class _Copy:
    """What was copied so far, within the limit."""

    def __init__(self, file: IO[bytes], path: Path, name: str, limit: int, progress: Progress | None) -> None:
        self._file = file
        self._path = path
        self.name = name
        self._limit = limit
        self._progress = progress

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()

    def add(self, piece: bytes, size: int) -> None:
        self._file.write(piece)
        done = self._file.tell()
        if max(done, size) > self._limit:
            msg = (
                f"{self.name}: larger than {self._limit:,} bytes, the limit HEADRACE_INGEST_UNPACKED_BYTES; "
                "raise it, or split the file"
            )
            raise SourceError(msg)
        if self._progress is not None:
            self._progress(self._path, done, size)


def _fetch(url: str, copy: _Copy, wait: Callable[[float], None]) -> None:
    read = _from_web if url.lower().startswith(WEB) else _from_store
    for attempt in range(1, ATTEMPTS + 1):
        copy.restart()
        try:
            read(url, copy)
            break
        except _Again as error:
            if attempt == ATTEMPTS:
                msg = f"{copy.name}: {error} ({ATTEMPTS} attempts); try later, or fetch it and give the file"
                raise SourceError(msg) from error
            pause = FIRST_WAIT_S * 2 ** (attempt - 1)
            _log.warning("%s: %s; attempt %d in %g s", copy.name, error, attempt + 1, pause)
            wait(pause)


class _Again(Exception):
    """A failure that may pass."""


def _from_web(url: str, copy: _Copy) -> None:
    import httpx  # noqa: PLC0415

    try:
        # Not unpacked in transfer: what the file is, its bytes say.
        headers = {"accept-encoding": "identity"}
        with (
            httpx.Client(
                timeout=TIMEOUT_S, follow_redirects=True, max_redirects=5, headers=headers
            ) as client,
            client.stream("GET", url) as answer,
        ):
            if answer.status_code in _TRY_AGAIN:
                msg = f"the server answered {answer.status_code}"
                raise _Again(msg)
            if not answer.is_success:
                why = f"{answer.status_code} {answer.reason_phrase}"
                msg = f"{copy.name}: the server answered {why}; is the URL right?"
                raise SourceError(msg)
            size = int(answer.headers.get("content-length", 0))
            for piece in answer.iter_bytes(PIECE):
                copy.add(piece, size)
    except httpx.TransportError as error:
        msg = f"the connection failed ({_one_line(error)})"
        raise _Again(msg) from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        msg = f"{copy.name}: cannot be fetched ({_one_line(error)})"
        raise SourceError(msg) from error


def _from_store(url: str, copy: _Copy) -> None:
    try:
        store, path = _store_of(url)
        info = store.get_file_info(path)
    except (OSError, ValueError, NotImplementedError) as error:
        msg = f"{copy.name}: cannot be opened ({_one_line(error)}); are region and credentials set?"
        raise SourceError(msg) from error
    copy_from(store, path, info, copy)


def _store_of(url: str) -> tuple[Any, str]:
    from pyarrow import fs  # noqa: PLC0415

    store, path = fs.FileSystem.from_uri(url)
    return store, path


def copy_from(store: Any, path: str, info: Any, copy: _Copy) -> None:
    """Copy a file of an Arrow file system."""
    from pyarrow import fs  # noqa: PLC0415

    if info.type != fs.FileType.File:
        what = "no such object" if info.type == fs.FileType.NotFound else "a folder; give the files in it"
        msg = f"{copy.name}: {what}"
        raise SourceError(msg)
    try:
        with store.open_input_stream(path) as stream:
            while piece := stream.read(PIECE):
                copy.add(bytes(piece), info.size or 0)
    except OSError as error:
        msg = f"reading failed ({_one_line(error)})"
        raise _Again(msg) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
