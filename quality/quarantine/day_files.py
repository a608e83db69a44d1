"""The quarantine's files: one per day, appended to in constant time, with an index of ids."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from quality.quarantine.entry import Entry, id_of_line

_DAY, _SUFFIX, _LOST = "day=", ".jsonl", ".lost"
_DATE = "[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]"
_FILE = re.compile(rf"{_DAY}{_DATE}\{_SUFFIX}")


class QuarantineDays:
    """Files ``day=<date>.jsonl`` in `root`, and ``day=<date>.lost``: how many records a day could not keep.

    Ids are read once; later reads cover only what other processes have appended. For everything but `paths`
    and `lost`, the caller holds the lock between threads and between processes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: set[int] = set()
        self._sizes: dict[str, int] = {}
        self._read: dict[str, int] = {}

    def path(self, day: date) -> Path:
        """Return the file of a day."""
        return self._root / f"{_DAY}{day.isoformat()}{_SUFFIX}"

    def paths(self) -> list[Path]:
        """List the existing files, oldest day first."""
        return sorted(self._root.glob(f"{_DAY}{_DATE}{_SUFFIX}"))

    def catch_up(self) -> None:
        """Read the ids added since the last call. If a file is gone or shorter, read all again."""
        with os.scandir(self._root) as found:
            self._sizes = {f.name: f.stat().st_size for f in found if _FILE.fullmatch(f.name)}
        if any(self._sizes.get(name, -1) < at for name, at in self._read.items()):
            self._known, self._read = set(), {}
        for name, size in self._sizes.items():
            if size > self._read.get(name, 0):
                self._read_ids(name)

    def knows(self, entry: Entry) -> bool:
        """Return whether this rejection is already kept."""
        return self.knows_id(entry.id)

    def knows_id(self, entry_id: str) -> bool:
        """Return whether a rejection with this id is kept."""
        return int(entry_id, 16) in self._known

    def size(self, day: date) -> int:
        """Return a day's size in bytes."""
        return self._sizes.get(self.path(day).name, 0)

    def total(self) -> int:
        """Return the size of all days in bytes."""
        return sum(self._sizes.values())

    def oldest_before(self, day: date) -> date | None:
        """Return the oldest day, if it is before this one."""
        oldest = min((day_of(self._root / name) for name in self._sizes), default=day)
        return oldest if oldest < day else None

    def append(self, day: date, entry: Entry, line: bytes) -> None:
        """Append an entry.

        Raises:
            OSError: it could not be written; the file is unchanged.
        """
        path = self.path(day)
        size = self.append_to(path, line)
        self._known.add(int(entry.id, 16))
        self._sizes[path.name] = self._read[path.name] = size

    def append_to(self, path: Path, lines: bytes) -> int:
        """Append whole lines, also after a line that a crash truncated; return the file's new size."""
        with path.open("a+b", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            if before:
                file.seek(before - 1)
                lines = lines if file.read(1) == b"\n" else b"\n" + lines
            try:
                written = 0
                while written < len(lines):
                    written += file.write(lines[written:])
            except OSError:
                file.truncate(before)
                raise
            return before + len(lines)

    def remove(self, day: date) -> int:
        """Remove a day; return how many entries it held."""
        path = self.path(day)
        held = sum(1 for _ in objects(path))
        path.unlink()
        return held

    def lost(self) -> dict[date, int]:
        """Return how many records each day could not keep."""
        return {day_of(path): _number(path) for path in sorted(self._root.glob(f"{_DAY}{_DATE}{_LOST}"))}

    def count_lost(self, day: date, count: int) -> None:
        """Add to the number of records that a day could not keep."""
        path = self.path(day).with_suffix(_LOST)
        path.write_text(str(_number(path) + count))

    def forget_lost(self, before: date) -> None:
        """Remove the counts of older days."""
        for path in self._root.glob(f"{_DAY}{_DATE}{_LOST}"):
            if day_of(path) < before:
                path.unlink()

    def _read_ids(self, name: str) -> None:
        with (self._root / name).open("rb") as file:
            at = file.seek(self._read.get(name, 0))
            for line in file:
                if not line.endswith(b"\n"):
                    break
                at += len(line)
                if (found := id_of_line(line)) is not None:
                    self._known.add(found)
        self._read[name] = at


def day_of(path: Path) -> date:
    """Return the day of a file."""
    return date.fromisoformat(path.stem.removeprefix(_DAY))


def objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of one of our files; skip a last line that a crash truncated."""
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue
    except FileNotFoundError:
        return


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0
