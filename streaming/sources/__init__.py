"""File formats. `open_source` gives the reader of a format by its name on the command line."""

from __future__ import annotations

from collections.abc import Container

from feature_repo.errors import SourceError
from streaming.sources.base import Raw, Row, Source, raw_bytes
from streaming.sources.files import InputFile, TruncatedError
from streaming.sources.packing import Limits

__all__ = [
    "FORMATS",
    "InputFile",
    "Limits",
    "Raw",
    "Row",
    "Source",
    "TruncatedError",
    "open_source",
    "raw_bytes",
]

FORMATS = ("headrace", "metarank", "movielens", "deskdrop")


def open_source(fmt: str, known: Container[str]) -> Source:
    """The reader of a format.

    Args:
        fmt: one of `FORMATS`.
        known: event types the contract knows.

    Raises:
        SourceError: there is no such format.
    """
    match fmt:
        case "headrace":
            from streaming.sources.headrace import HeadraceSource  # noqa: PLC0415

            return HeadraceSource()
        case "metarank":
            from streaming.sources.metarank import MetarankSource  # noqa: PLC0415

            return MetarankSource(known)
        case "movielens":
            from streaming.sources.movielens import MovieLensSource  # noqa: PLC0415

            return MovieLensSource()
        case "deskdrop":
            from streaming.sources.deskdrop import DeskdropSource  # noqa: PLC0415

            return DeskdropSource()
    msg = f"--format {fmt}: unknown; there are {', '.join(FORMATS)}"
    raise SourceError(msg)
