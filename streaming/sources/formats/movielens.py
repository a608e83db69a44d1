"""MovieLens: a folder, or ``ratings.csv``, ``movies.csv`` or ``tags.csv`` of it (also ``.gz``, ``.zip``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from feature_repo.contract.validation import Kind
from feature_repo.errors import ContractError, SourceError
from streaming.sources.files import InputFile
from streaming.sources.format import Format
from streaming.sources.source import Raw, Row, epoch_seconds, fields_of, identity, required, table_rows

LIKED = 4.0
TABLES = {
    "movies": {"movieId", "title", "genres"},
    "ratings": {"userId", "movieId", "rating", "timestamp"},
    "tags": {"userId", "movieId", "tag", "timestamp"},
}
_YEAR = re.compile(r"\((\d{4})\)\s*$")


class MovieLensSource:
    """Movies become items, ratings and tags events.

    A rating of 4 or more is a ``like``, any other a ``view``; the stars are kept in ``properties.rating``.
    A tag is an event of type ``tag`` with ``properties.tag``. A session is one user's day (UTC). The year in
    a title gives ``created_at``. ``links.csv`` holds only ids of other sites and is left out.
    """

    event_types: ClassVar[Mapping[str, float]] = {"tag": 1.0}

    def files(self, path: InputFile) -> list[InputFile]:
        """Movies, then ratings, then tags of a folder; or the one file."""
        if not path.path.is_dir():
            return [path]
        names = [p for table in TABLES for p in sorted(path.path.glob(f"{table}.csv*"))]
        if not names:
            msg = f"{path.path}: no movies.csv, ratings.csv or tags.csv (or .gz, .zip) in this folder"
            raise SourceError(msg)
        return [InputFile(p, path.limits) for p in names]

    def rows(self, file: InputFile, kind: Kind | None) -> Iterator[Row]:
        """Rows by column name."""
        known = False
        wanted = "; ".join(f"{t}: {', '.join(sorted(c))}" for t, c in TABLES.items())
        for row in table_rows(file, wanted, "movielens"):
            if not known and not isinstance(row.raw, bytes):
                if not any(columns <= row.raw.keys() for columns in TABLES.values()):
                    msg = f"{file.path}: columns {', '.join(row.raw)} are of no table read here ({wanted})"
                    raise SourceError(msg)
                known = True
            yield row

    def convert(self, raw: Raw, kind: Kind | None) -> Raw:
        """One movie, rating or tag."""
        row = fields_of(raw)
        if "title" in row:
            return _movie(row)
        return _event(row, "rating") if "rating" in row else _event(row, "tag")


def _movie(row: Mapping[str, Any]) -> Raw:
    title = str(row["title"])
    genres = [g for g in str(row.get("genres") or "").split("|") if g and g != "(no genres listed)"]
    fields: dict[str, Any] = {
        "record": "item",
        "item_id": required(row, "movieId"),
        "title": title,
        "categories": genres,
    }
    if (year := _YEAR.search(title)) and int(year.group(1)):
        fields["created_at"] = datetime(int(year.group(1)), 1, 1, tzinfo=UTC)
    return fields


def _event(row: Mapping[str, Any], what: str) -> Raw:
    user, item = required(row, "userId"), required(row, "movieId")
    value = required(row, what)
    time_ms = epoch_seconds(row, "timestamp")
    try:
        day = datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError) as error:
        msg = f"timestamp: {row['timestamp']} is no time in epoch seconds; 2024-01-01 is 1704067200"
        raise ContractError("time_out_of_range", "timestamp", msg) from error
    return {
        "record": "event",
        "event_id": identity(what, user, item, value, time_ms),
        "event_type": "tag" if what == "tag" else _rated(value),
        "event_time": time_ms,
        "session_id": f"{user}:{day}",
        "user_id": user,
        "item_id": item,
        "properties": {what: value},
    }


def _rated(stars: str) -> str:
    try:
        return "like" if float(stars) >= LIKED else "view"
    except ValueError as error:
        msg = f"rating: {stars!r} is no number of stars; e.g. 3.5"
        raise ContractError("bad_value", "rating", msg) from error


FORMAT = Format("MovieLens: the folder, or one of its CSV files.", lambda known: MovieLensSource())
