"""Arrow columns as numpy arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.arrays import Floats, Ints

STEP = 4096
"""Rows made Python objects at once: rankings under way get the interpreter between."""


def list_of(column: pa.ChunkedArray) -> pa.ListArray:
    """A list column as one array."""
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def bounds_of(column: pa.ListArray) -> Ints:
    """Bounds of the rows of a list array in what `flatten` gives; a null row is empty ``(n + 1,)``."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.intp)


def floats_of(column: pa.Array | pa.ChunkedArray, missing: float) -> Floats:
    """Numbers as float64, with `missing` for null."""
    values = pc.fill_null(pc.cast(column, pa.float64()), missing)
    return np.array(values.to_numpy(), np.float64)


def texts_of(column: pa.ChunkedArray) -> Iterator[str]:
    """The texts of a column, a step at a time."""
    for start in range(0, len(column), STEP):
        yield from column.slice(start, STEP).to_pylist()
