"""Converts Arrow columns to NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.arrays import Floats, Ints

STEP = 4096
"""Rows converted to Python objects at once; between steps, concurrent rankings get the GIL."""


def list_of(column: pa.ChunkedArray) -> pa.ListArray:
    """Combine a list column into one array."""
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def bounds_of(column: pa.ListArray) -> Ints:
    """Return the bounds of each row in the flattened list array ``(n + 1,)``; a null row is empty."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.intp)


def floats_of(column: pa.Array | pa.ChunkedArray, missing: float) -> Floats:
    """Convert numbers to float64, with `missing` for null."""
    values = pc.fill_null(pc.cast(column, pa.float64()), missing)
    return np.array(values.to_numpy(), np.float64)


def texts_of(column: pa.ChunkedArray) -> Iterator[str]:
    """Iterate over the strings of a column, converted in steps."""
    for start in range(0, len(column), STEP):
        yield from column.slice(start, STEP).to_pylist()
