"""Deskdrop: articles read inside a company (Kaggle's ``users_interactions.csv``, also ``.zip``, ``.gz``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from feature_repo.contract.validation import Kind
from feature_repo.errors import ContractError, SourceError
from streaming.sources.files import InputFile
from streaming.sources.format import Format
from streaming.sources.source import Raw, Row, epoch_seconds, fields_of, identity, required, table_rows

COLUMNS = ("timestamp", "eventType", "contentId", "personId", "sessionId")
TYPES = {
    "VIEW": "view",
    "LIKE": "like",
    "BOOKMARK": "bookmark",
    "COMMENT CREATED": "comment",
    "FOLLOW": "follow",
}
PROPERTIES = {"userAgent": "user_agent", "userRegion": "region", "userCountry": "country"}


class DeskdropSource:
    """Every row is an event. Its id is a hash of (time, type, item, user): rows that repeat another are
    duplicates.
    """

    event_types: ClassVar[Mapping[str, float]] = {"bookmark": 2.0, "comment": 3.0, "follow": 3.0}

    def files(self, path: InputFile) -> list[InputFile]:
        """One file."""
        if path.path.is_dir():
            msg = f"{path.path}: a folder; give the file users_interactions.csv (or .zip, .gz) in it"
            raise SourceError(msg)
        return [path]

    def rows(self, file: InputFile, kind: Kind | None) -> Iterator[Row]:
        """Rows by column name."""
        for row in table_rows(file, ", ".join(COLUMNS), "deskdrop"):
            if missing := [c for c in COLUMNS if c not in row.raw and row.error is None]:
                msg = f"{file.path}: no column {', '.join(missing)}; Deskdrop has {', '.join(COLUMNS)}"
                raise SourceError(msg)
            yield row

    def convert(self, raw: Raw, kind: Kind | None) -> Raw:
        """One interaction."""
        row = fields_of(raw)
        time, kind_of, item, user = (required(row, c) for c in COLUMNS[:4])
        if kind_of not in TYPES:
            msg = f"eventType: {kind_of!r} is none of {', '.join(TYPES)}"
            raise ContractError("unknown_event_type", "eventType", msg)
        return {
            "event_id": identity(time, kind_of, item, user),
            "event_type": TYPES[kind_of],
            "event_time": epoch_seconds(row, "timestamp"),
            "session_id": required(row, "sessionId"),
            "user_id": user,
            "item_id": item,
            "properties": {name: row[column] for column, name in PROPERTIES.items() if row.get(column)},
            "record": "event",
        }


FORMAT = Format("Deskdrop: `users_interactions.csv`.", lambda known: DeskdropSource())
