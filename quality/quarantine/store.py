"""Rejected records and their reasons: kept byte for byte, listed, and replayed after a fix."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

from prometheus_client import Counter as Metric

from feature_repo.contract.records import Kind
from feature_repo.errors import ContractError, LakeError
from feature_repo.files import write_file
from feature_repo.home import Home
from feature_repo.lock import locked
from feature_repo.settings import Settings
from quality.quarantine.day_files import QuarantineDays, day_of, objects
from quality.quarantine.entry import Entry, from_fields, new_entry, to_line

__all__ = ["Entry", "Quarantine", "QUARANTINED", "NOT_KEPT"]

_log = logging.getLogger(__name__)

QUARANTINED = Metric(
    "headrace_quarantined_records_total", "Records put into quarantine, by reason code.", ["code"]
)
NOT_KEPT = Metric(
    "headrace_quarantine_not_kept_total",
    "Rejected records that a full day (day) or disk (disk) could not keep, or removed to make room (folder).",
    ["limit"],
)
RETRIED = "retried.jsonl"
DAY_BYTES, FOLDER_BYTES = 64 << 20, 256 << 20


class Quarantine:
    """Append-only JSONL in `root`, by day of first sight. Adding the same rejection again changes nothing.

    A full day keeps its records, because the first ones of a flood show its cause. A full folder removes its
    oldest day. Both losses are counted, in a metric and beside the days (`not_kept`).

    Args:
        root: folder of the files; created at the first rejection.
        clock: gives the time of first sight.
        day_bytes, folder_bytes: size limits of a day and of the folder.
    """

    def __init__(
        self,
        root: Path,
        clock: Callable[[], datetime],
        *,
        day_bytes: int = DAY_BYTES,
        folder_bytes: int = FOLDER_BYTES,
    ) -> None:
        self._root = root
        self._clock = clock
        self._day_bytes = day_bytes
        self._folder_bytes = folder_bytes
        self._lock = Lock()
        self._days = QuarantineDays(root)
        self._told: set[date] = set()

    @classmethod
    def of(cls, settings: Settings, home: Home, clock: Callable[[], datetime] | None = None) -> Quarantine:
        """Create the quarantine of a home, with the limits from the settings."""
        return cls(
            home.quarantine,
            clock or settings.clock,
            day_bytes=settings.quarantine_day_mb << 20,
            folder_bytes=settings.quarantine_mb << 20,
        )

    def warm(self) -> Quarantine:
        """Read the kept ids now instead of at the first rejection; a full folder takes a second.

        An unreadable folder does not stop startup; the first rejection reports it.
        """
        if self._root.is_dir():
            try:
                with self._lock, self._alone(self._root):
                    self._days.catch_up()
            except LakeError as error:
                _log.warning("%s", error)
        return self

    def put(
        self,
        raw: bytes,
        source: str,
        line: int | None,
        error: ContractError,
        *,
        fmt: str = "headrace",
        kind: Kind | None = None,
        layout: Mapping[str, Any] | None = None,
    ) -> bool:
        """Keep a rejected record and return whether it was new. If the day is full, count it instead.

        Raises:
            LakeError: the quarantine cannot be written, so the loss is not silent.
        """
        now = self._clock().astimezone(UTC)
        entry = new_entry(raw, source, line, error, now, fmt=fmt, kind=kind, layout=layout)
        day, text = now.date(), to_line(entry)
        with self._lock, self._alone(self._days.path(day)):
            self._days.catch_up()
            if self._days.knows(entry):
                return False
            if self._has_room(day, len(text)):
                self._days.append(day, entry, text)
            else:
                self._days.count_lost(day, 1)
                NOT_KEPT.labels("day").inc()
        QUARANTINED.labels(entry.code).inc()
        return True

    def mark_retried(self, entries: Sequence[Entry]) -> None:
        """Record that entries were replayed; they stay, but are not replayed again."""
        path, now = self._root / RETRIED, self._clock().isoformat()
        lines = (json.dumps({"id": entry.id, "at": now}).encode() + b"\n" for entry in entries)
        with self._lock, self._alone(path):
            self._days.append_to(path, b"".join(lines))

    def entries(self, *, code: str | None = None, pending: bool = False) -> Iterator[Entry]:
        """Yield entries in order of first sight; `pending` leaves out those already replayed."""
        retried = self._retried()
        for path in self._days.paths():
            for fields in objects(path):
                entry = from_fields(fields, retried)
                if (code is None or entry.code == code) and not (pending and entry.retried):
                    yield entry

    def find(self, prefix: str) -> Entry | None:
        """Return the entry whose id starts with the prefix, if there is exactly one."""
        found = [e for e in self.entries() if e.id.startswith(prefix)]
        return found[0] if len(found) == 1 else None

    def count(self, *, pending: bool = False) -> int:
        """Count the kept records."""
        return sum(self.reasons(pending=pending).values())

    def reasons(self, *, pending: bool = False) -> Counter[str]:
        """Count records by reason code."""
        return Counter(e.code for e in self.entries(pending=pending))

    def not_kept(self) -> dict[date, int]:
        """Return how many records a full quarantine could not keep, by day; repeats count each time."""
        return self._days.lost()

    def prune(self, older_than: timedelta) -> int:
        """Remove days entirely older than this; return how many entries were removed."""
        horizon = (self._clock() - older_than).astimezone(UTC).date()
        removed = 0
        if not self._root.is_dir():
            return 0
        with self._lock, self._alone(self._root):
            old = [day for path in self._days.paths() if (day := day_of(path)) < horizon]
            removed = sum(self._days.remove(day) for day in old)
            self._days.forget_lost(horizon)
            self._forget_retried()
        return removed

    def _has_room(self, day: date, size: int) -> bool:
        """Make room by removing the oldest days; return whether a line of this size fits."""
        while self._days.total() + size > self._folder_bytes and (oldest := self._days.oldest_before(day)):
            removed = self._days.remove(oldest)
            self._days.count_lost(oldest, removed)
            NOT_KEPT.labels("folder").inc(removed)
            _log.warning(
                "quarantine full (HEADRACE_QUARANTINE_MB): removed the %d records of %s", removed, oldest
            )
            self._days.catch_up()
        fits = self._days.size(day) + size <= min(self._day_bytes, self._folder_bytes)
        if not fits and day not in self._told:
            self._told.add(day)
            _log.warning(
                "quarantine of %s full (HEADRACE_QUARANTINE_DAY_MB): further rejected records of the day are "
                "counted but not kept; see `headrace quarantine list`",
                day,
            )
        return fits

    def _retried(self) -> dict[str, datetime]:
        return {f["id"]: datetime.fromisoformat(f["at"]) for f in objects(self._root / RETRIED)}

    def _forget_retried(self) -> None:
        """Rewrite the replay records without those of removed entries."""
        self._days.catch_up()
        path = self._root / RETRIED
        held: list[dict[str, Any]] = list(objects(path))
        left = [fields for fields in held if self._days.knows_id(fields["id"])]
        if len(left) < len(held):
            write_file(path, b"".join(json.dumps(fields).encode() + b"\n" for fields in left))

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """Lock the folder between processes; map an I/O error to one that names the file."""
        try:
            with locked(self._root / ".lock"):
                yield
        except OSError as error:
            msg = f"quarantine {path}: cannot write ({error.strerror}); point HEADRACE_HOME elsewhere"
            raise LakeError(msg) from error
