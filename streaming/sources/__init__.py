"""File formats. `open_source` gives the reader of a format by its name on the command line."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from feature_repo.errors import SourceError
from streaming.sources.files import InputFile, TruncatedError
from streaming.sources.packing import Limits
from streaming.sources.source import Noting, Raw, Row, Source, raw_bytes

__all__ = [
    "FORMATS",
    "InputFile",
    "Limits",
    "Noting",
    "Raw",
    "Row",
    "Source",
    "TruncatedError",
    "open_source",
    "raw_bytes",
]

FORMATS = ("headrace", "metarank", "movielens", "deskdrop")


def open_source(fmt: str, known: Container[str], mappings: Path | None = None) -> Source:
    """The reader of a format.

    Args:
        fmt: one of `FORMATS`, or a mapping: see `streaming.mapping.saved`.
        known: event types the contract knows.
        mappings: folder of the saved mappings.

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
    if fmt.startswith("map:"):
        from streaming.mapping.saved import mapping_of  # noqa: PLC0415
        from streaming.mapping.source import MappedSource  # noqa: PLC0415

        return MappedSource(mapping_of(fmt, mappings))
    msg = f"--format {fmt}: unknown; there are {', '.join(FORMATS)}"
    raise SourceError(msg)
