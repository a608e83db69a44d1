"""Records of the log as rows of the lake, and which of them are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import pyarrow as pa

from feature_repo.contract.validation import Kind, Record, to_arrow

ANY_TIME = datetime(2024, 1, 1, tzinfo=UTC)


class UnfitError(Exception):
    """Records that Arrow cannot hold."""


@contextmanager
def fitting() -> Iterator[None]:
    """Raise `UnfitError` where a conversion to Arrow fails, in whatever way."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError, ValueError) as error:
        msg = f"no row of the lake: {error}"
        raise UnfitError(msg) from error


def table_of(kind: Kind, records: Sequence[Record], ingested_at: datetime) -> pa.Table:
    """Records of one kind as a table.

    Raises:
        UnfitError: one of them is no row.
    """
    with fitting():
        return to_arrow(kind, records, ingested_at)
