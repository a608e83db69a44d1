"""Where a shard's state outlives the process: a folder of append-only files, one append per snapshot.

A row per session in a database costs a page of its B-tree for each session that changed, which at a million
sessions is most of what a snapshot writes. Here a snapshot is one append of what changed. With it go as many
other entries, from a walk through the whole state; when the walk is round, the file it was written to says
all there is, the next one is begun and those before it are removed. So each entry is on the disk at most four
times, and no snapshot writes more than about twice what changed.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import msgspec
import xxhash

from feature_repo.errors import StoreError

_log = logging.getLogger(__name__)
SUFFIX = ".state"
PAGE_ENTRIES = 4_000
WALK_SNAPSHOTS = 64
"""Snapshots, at the most, in which a walk through the state comes round."""
SMALLEST = 1 << 20
"""Bytes below which a file is gone on with."""
_HEADER = struct.Struct("<QIB")
_PAGE, _COMMIT = 0, 1
_encode = msgspec.msgpack.Encoder().encode
_entries = msgspec.msgpack.Decoder(dict[str, bytes | None]).decode
_named = msgspec.msgpack.Decoder(dict[str, bytes]).decode


class _Snapshot(NamedTuple):
    file: int
    end: int
    pages: list[bytes]
    facts: bytes


class StateFolder:
    """State by key, and a few facts about the shard (its watermark, items heard of).

    The whole state is loaded at start; a snapshot appends what changed: pages of entries, then the facts,
    which make it valid. It is written before Bytewax commits the log position it belongs to, so whatever
    process dies, state is never behind the position. A power cut may take the newest snapshots with it: what
    is behind the last whole one is cut off at the next start. (Forcing each to the disk would stall the flow
    for a tenth of a second.) That is why the shard's own position is a fact, and reading resumes at the older
    of the two. A file is forced to the disk before those it replaces are removed.

    Args:
        path: the folder; made here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._facts: dict[str, bytes] = {}
        self._walk: Iterator[str] | None = None
        self._number = self._fd = self._end = -1
        self._retiring: threading.Thread | None = None
        with self._mapped():
            path.mkdir(parents=True, exist_ok=True)

    def facts(self) -> dict[str, bytes]:
        """The shard's facts."""
        with self._mapped():
            return {name: raw for found in self._snapshots() for name, raw in _named(found.facts).items()}

    def load(self) -> dict[str, bytes]:
        """State by key; a snapshot that was not written to its end is cut off."""
        state: dict[str, bytes | None] = {}
        number, end = 0, 0
        with self._mapped():
            for snapshot in self._snapshots():
                number, end = snapshot.file, snapshot.end
                for page in snapshot.pages:
                    state.update(_entries(page))
                self._facts.update(_named(snapshot.facts))
            self._cut_off(number, end)
            self._open(max(number, 1))
        for key in [key for key, value in state.items() if value is None]:
            del state[key]
        return cast("dict[str, bytes]", state)

    def save(self, held: Mapping[str, bytes], changed: Collection[str], facts: Mapping[str, bytes]) -> None:
        """Write what changed and facts, all or nothing.

        Args:
            held: the whole state.
            changed: keys of what is new, other or gone since the last time.

        Raises:
            StoreError: the files cannot be written; nothing of it was.
        """
        if self._fd < 0:
            self.load()
        with self._mapped():
            keys, complete = self._due(held, changed)
            starts = range(0, len(keys), PAGE_ENTRIES)
            pages = [_encode({key: held.get(key) for key in keys[s : s + PAGE_ENTRIES]}) for s in starts]
            self._append([*(_frame(_PAGE, page) for page in pages), _frame(_COMMIT, _encode(dict(facts)))])
            self._facts.update(facts)
            if complete and self._end >= SMALLEST:
                self._begin_next()

    def settle(self) -> None:
        """Return once files no longer needed are removed."""
        if self._retiring is not None:
            self._retiring.join()

    def close(self) -> None:
        """Let go of the files."""
        self.settle()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _due(self, held: Mapping[str, bytes], changed: Collection[str]) -> tuple[list[str], bool]:
        """Keys to write, and whether with them the file says all there is."""
        if self._walk is None:
            self._walk = iter(list(held))
        share = max(len(changed), len(held) // WALK_SNAPSHOTS) if changed else 0
        passed = list(islice(self._walk, share))
        complete = len(passed) < share
        if complete:
            self._walk = None
        return [*changed, *(key for key in passed if key in held and key not in changed)], complete

    def _append(self, frames: Iterable[bytes]) -> None:
        try:
            for frame in frames:
                rest = memoryview(frame)
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
        except BaseException:
            self._walk = None  # what it passed was not written
            os.ftruncate(self._fd, self._end)
            raise
        self._end = os.fstat(self._fd).st_size

    def _begin_next(self) -> None:
        """Go on in a new file; once the full one is on the disk, those before it are of no use."""
        full, number = self._fd, self._number
        self._open(number + 1)
        self._append([_frame(_COMMIT, _encode(self._facts))])
        self.settle()
        self._retiring = threading.Thread(target=self._retire, args=(full, number), name="state-files")
        self._retiring.start()

    def _retire(self, full: int, number: int) -> None:
        try:
            os.fsync(full)
            for older in self._numbers():
                if older < number:
                    self._file(older).unlink()
        except OSError as error:  # they only take up room; the next file's turn tries again
            _log.warning("stream state %s: files no longer needed stay: %s", self._path, error)
        finally:
            os.close(full)

    def _open(self, number: int) -> None:
        self._fd = os.open(self._file(number), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._number, self._end = number, os.fstat(self._fd).st_size

    def _cut_off(self, number: int, end: int) -> None:
        """Remove what follows the last whole snapshot."""
        for found in self._numbers():
            lost = self._file(found).stat().st_size - (end if found == number else 0)
            if found >= number and lost:
                _log.warning("stream state %s: %d bytes of a snapshot cut short", self._file(found), lost)
            if found == number:
                os.truncate(self._file(found), end)
            elif found > number:
                self._file(found).unlink()

    def _snapshots(self) -> Iterator[_Snapshot]:
        """Whole snapshots from the oldest on. Ends at what is damaged."""
        for number in self._numbers():
            end, pages = 0, []
            with self._file(number).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                for kind, payload in _frames(file, size):
                    if kind == _PAGE:
                        pages.append(payload)
                        continue
                    end = file.tell()
                    yield _Snapshot(number, end, pages, payload)
                    pages = []
            if end < size:
                return

    def _numbers(self) -> list[int]:
        return sorted(int(file.stem) for file in self._path.glob(f"*{SUFFIX}"))

    def _file(self, number: int) -> Path:
        return self._path / f"{number:08d}{SUFFIX}"

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            msg = (
                f"stream state {self._path}: {error}; is HEADRACE_HOME writable and its disk not full? "
                "Deleting HEADRACE_HOME/stream makes the stream read the log from its start"
            )
            raise StoreError(msg) from error


def _frame(kind: int, payload: bytes) -> bytes:
    seed = len(payload) << 1 | kind
    return _HEADER.pack(xxhash.xxh64_intdigest(payload, seed), len(payload), kind) + payload


def _frames(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """Whole, undamaged frames."""
    while len(header := file.read(_HEADER.size)) == _HEADER.size:
        digest, length, kind = _HEADER.unpack(header)
        if length > size - file.tell():
            return
        payload = file.read(length)
        if xxhash.xxh64_intdigest(payload, length << 1 | kind) != digest:
            return
        yield kind, payload
