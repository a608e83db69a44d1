"""Sessions, one a line: item ids separated by commas, in order of clicks (``train.txt``, ``test.txt``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from feature_repo.contract.validation import Kind
from feature_repo.errors import ContractError, SourceError
from streaming.sources.files import InputFile
from streaming.sources.format import Format
from streaming.sources.source import Raw, Row, fields_of, identity

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
STEP = timedelta(minutes=1)
_ORDER = ("train", "test")


class SessionsSource:
    """Every item id is a view. There are no times: sessions follow each other, a click a minute."""

    event_types: ClassVar[Mapping[str, float]] = {}

    def __init__(self) -> None:
        self._clicks = 0

    def files(self, path: InputFile) -> list[InputFile]:
        """Return ``train.txt``, then ``test.txt`` of a folder, also packed; or the one file."""
        if not path.path.is_dir():
            return [path]
        found = [p for name in _ORDER for p in sorted(path.path.glob(f"{name}.txt*"))[:1]]
        if not found:
            msg = f"{path.path}: no train.txt or test.txt (or .gz, .zip) in this folder"
            raise SourceError(msg)
        return [InputFile(p, path.limits) for p in found]

    def rows(self, file: InputFile, kind: Kind | None) -> Iterator[Row]:
        """The clicks of each line; a line that is not a session comes with an error."""
        # The same for the packed file; another for a data set of another folder.
        name = f"{file.path.parent.name}/{file.path.name.partition('.')[0]}"
        for number, line in file.lines():
            if not line.strip():
                continue
            if len(line) > file.limits.row_bytes:
                yield Row(line, number, file.too_long(number))
                continue
            try:
                items = [item.strip() for item in line.decode().split(",")]
            except UnicodeDecodeError:
                items = []
            if not all(items) or not items or any(len(item.split()) > 1 for item in items):
                msg = f"line {number}: not a session; write item ids separated by commas, as 12,7,12"
                yield Row(line, number, ContractError("not_a_session", "", msg))
                continue
            session = f"{name}:{number}"
            for place, item in enumerate(items):
                self._clicks += 1
                time = (FIRST + self._clicks * STEP).isoformat()
                yield Row({"session": session, "place": place, "item": item, "time": time}, number)

    def convert(self, raw: Raw, kind: Kind | None) -> Raw:
        """One click."""
        row = fields_of(raw)
        return {
            "record": "event",
            "event_id": identity(row["session"], row["place"], row["item"]),
            "event_type": "view",
            "event_time": row["time"],
            "session_id": row["session"],
            "item_id": row["item"],
        }


FORMAT = Format("Sessions, one a line: item ids separated by commas.", lambda known: SessionsSource())
