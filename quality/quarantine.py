"""Rejected records with their reasons: kept byte for byte, listed, and replayed after a fix."""

from __future__ import annotations

import base64
import fcntl
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import xxhash
from prometheus_client import Counter as Metric

from feature_repo.contract import Kind
from feature_repo.errors import ContractError, LakeError

QUARANTINED = Metric(
    "headrace_quarantined_records_total", "Records put into quarantine, by reason code.", ["code"]
)
RETRIED = "retried.jsonl"


@dataclass(frozen=True)
class Entry:
    """One rejected record.

    Attributes:
        id: of source, place and bytes: the same rejection has the same id.
        raw: the bytes as they came.
        source: file, or the door they came through.
        line: line (text), row (tables) or byte offset (log segments) in it; `None` where there is none.
        code, field, message: the reason; the code is stable.
        first_seen: when it was rejected first.
        format, kind: how the source was read, to read the bytes again.
        retried: when it was replayed with success, else `None`.
    """

    id: str
    raw: bytes
    source: str
    line: int | None
    code: str
    field: str
    message: str
    first_seen: datetime
    format: str = "headrace"
    kind: Kind | None = None
    retried: datetime | None = None


class Quarantine:
    """Append-only JSONL by day of first sight below `root`. Putting the same rejection again adds nothing.

    Args:
        root: folder of the files; made at the first rejection.
        clock: gives the time of first sight.
    """

    def __init__(self, root: Path, clock: Callable[[], datetime]) -> None:
        self._root = root
        self._clock = clock
        self._lock = Lock()
        self._known: set[int] | None = None
        self._sizes: dict[Path, int] = {}

    def put(
        self,
        raw: bytes,
        source: str,
        line: int | None,
        error: ContractError,
        *,
        fmt: str = "headrace",
        kind: Kind | None = None,
    ) -> bool:
        """Keep a rejected record; whether it was new.

        Raises:
            LakeError: the quarantine cannot be written; the record is then not lost silently.
        """
        source = _text(source)
        entry = Entry(
            id=_identity(raw, source, line),
            raw=raw,
            source=source,
            line=line,
            code=error.code,
            field=_text(error.field),
            message=_text(str(error)),
            first_seen=self._clock().astimezone(UTC),
            format=fmt,
            kind=kind,
        )
        with self._lock:
            known = self._ids()
            if int(entry.id, 16) in known:
                return False
            self._append(f"day={entry.first_seen:%Y-%m-%d}.jsonl", _to_json(entry))
            known.add(int(entry.id, 16))
        QUARANTINED.labels(entry.code).inc()
        return True

    def mark_retried(self, entries: Sequence[Entry]) -> None:
        """Note that records were replayed; they are kept, and not replayed again."""
        with self._lock:
            now = self._clock().isoformat()
            self._append(RETRIED, *({"id": entry.id, "at": now} for entry in entries))

    def entries(self, *, code: str | None = None, pending: bool = False) -> Iterator[Entry]:
        """Entries in order of first sight; `pending` leaves out those replayed already."""
        retried = self._retried()
        for path in self._days():
            for fields in _objects(path):
                entry = _from_json(fields, retried)
                if (code is None or entry.code == code) and not (pending and entry.retried):
                    yield entry

    def find(self, prefix: str) -> Entry | None:
        """The entry whose id begins with this, when there is exactly one."""
        found = [e for e in self.entries() if e.id.startswith(prefix)]
        return found[0] if len(found) == 1 else None

    def count(self, *, pending: bool = False) -> int:
        """How many records are kept."""
        return sum(self.reasons(pending=pending).values())

    def reasons(self, *, pending: bool = False) -> Counter[str]:
        """Number of records by reason code."""
        return Counter(e.code for e in self.entries(pending=pending))

    def prune(self, older_than: timedelta) -> int:
        """Remove days that lie wholly further back; how many entries went."""
        horizon = (self._clock() - older_than).date()
        removed = 0
        with self._lock:
            for path in self._days():
                if date.fromisoformat(path.stem.removeprefix("day=")) < horizon:
                    removed += sum(1 for _ in _objects(path))
                    path.unlink()
            self._known = None
        return removed

    def _days(self) -> list[Path]:
        return sorted(self._root.glob("day=*.jsonl"))

    def _ids(self) -> set[int]:
        """Ids kept so far, those of other processes included."""
        sizes = {path: path.stat().st_size for path in self._days()}
        if self._known is None:
            self._known, self._sizes = set(), {}
        if sizes != self._sizes:
            changed = [p for p, size in sizes.items() if self._sizes.get(p) != size]
            self._known.update(int(f["id"], 16) for p in changed for f in _objects(p))
            self._sizes = sizes
        return self._known

    def _retried(self) -> dict[str, datetime]:
        return {f["id"]: datetime.fromisoformat(f["at"]) for f in _objects(self._root / RETRIED)}

    def _append(self, name: str, *entries: dict[str, Any]) -> None:
        path = self._root / name
        line = b"".join(json.dumps(fields, ensure_ascii=False).encode() + b"\n" for fields in entries)
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(line if _ends_whole(file) else b"\n" + line)
        except OSError as error:
            msg = f"quarantine {path}: cannot write ({error.strerror}); point HEADRACE_HOME elsewhere"
            raise LakeError(msg) from error
        if name != RETRIED:
            self._sizes[path] = self._sizes.get(path, 0) + len(line)


def _ends_whole(file: BinaryIO) -> bool:
    """Whether the last line is complete; a crash may have cut it."""
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _text(text: str) -> str:
    """Text that can be written: a file's name, and what was found in it, need not be UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _identity(raw: bytes, source: str, line: int | None) -> str:
    return xxhash.xxh3_64_hexdigest(b"\0".join((source.encode(), str(line).encode(), raw)))


def _to_json(entry: Entry) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": entry.id}
    try:
        fields["raw"] = entry.raw.decode()
    except UnicodeDecodeError:
        fields["raw_base64"] = base64.b64encode(entry.raw).decode()
    return fields | {
        "source": entry.source,
        "line": entry.line,
        "code": entry.code,
        "field": entry.field,
        "message": entry.message,
        "first_seen": entry.first_seen.isoformat(),
        "format": entry.format,
        "kind": entry.kind,
    }


def _from_json(fields: dict[str, Any], retried: dict[str, datetime]) -> Entry:
    encoded = fields.pop("raw_base64", None)
    raw = base64.b64decode(encoded) if encoded is not None else fields.pop("raw").encode()
    fields.pop("raw", None)
    first_seen = datetime.fromisoformat(fields.pop("first_seen"))
    return Entry(raw=raw, first_seen=first_seen, retried=retried.get(fields["id"]), **fields)


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of a file of ours; a last line cut short by a crash is left out."""
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue
    except FileNotFoundError:
        return
