"""Converts log records to rows of the lake, and detects those that do not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import pyarrow as pa

from feature_repo.contract.validation import Kind, Record, to_arrow

ANY_TIME = datetime(2024, 1, 1, tzinfo=UTC)


class UnfitError(Exception):
    """Some records cannot be converted to Arrow."""


@contextmanager
def fitting() -> Iterator[None]:
    """Raise `UnfitError` if a conversion to Arrow fails for any reason."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError, ValueError) as error:
        msg = f"does not fit the lake: {error}"
        raise UnfitError(msg) from error


def table_of(kind: Kind, records: Sequence[Record], ingested_at: datetime) -> pa.Table:
    """Convert records of one kind to a table.

    Raises:
        UnfitError: a record does not fit.
    """
    with fitting():
        return to_arrow(kind, records, ingested_at)
