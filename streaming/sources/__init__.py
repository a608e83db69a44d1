"""File formats. `open_source` gives the reader of a format by its name on the command line."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from feature_repo.errors import SourceError
from streaming.sources.files import InputFile, TruncatedError
from streaming.sources.formats import DEFAULT, format_names, format_of
from streaming.sources.packing import Limits
from streaming.sources.source import Noting, Raw, Row, Source, raw_bytes

__all__ = [
    "DEFAULT",
    "InputFile",
    "Limits",
    "Noting",
    "Raw",
    "Row",
    "Source",
    "TruncatedError",
    "format_names",
    "open_source",
    "raw_bytes",
]


def open_source(name: str, known: Container[str], mappings: Path | None = None) -> Source:
    """Return the reader of a format.

    Args:
        name: one of `format_names`, or a mapping: see `streaming.mapping.saved`.
        known: event types the contract knows.
        mappings: folder of the saved mappings.

    Raises:
        SourceError: there is no such format.
    """
    if name in format_names():
        return format_of(name).open(known)
    if name.startswith("map:"):
        from streaming.mapping.saved import mapping_of  # noqa: PLC0415
        from streaming.mapping.source import MappedSource  # noqa: PLC0415

        return MappedSource(mapping_of(name, mappings))
    known_ones = "\n".join(f"  {one}: {format_of(one).sentence}" for one in format_names())
    msg = f"--format {name}: not a format; the formats are\n{known_ones}"
    raise SourceError(msg)
