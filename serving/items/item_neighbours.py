"""Counts of items that go together or follow each other, in compressed sparse rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from feature_repo.arrays import Floats, Ints
from serving.items.arrow_arrays import bounds_of, floats_of, list_of
from serving.scoring.compiled import compiled


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Neighbours of each of ``n`` items in compressed sparse rows.

    Attributes:
        offsets: ``n + 1`` bounds into `items` and `counts`.
        totals: count of each item itself; the appended zero belongs to the unknown item -1.
    """

    offsets: Ints
    items: Ints
    counts: Floats
    totals: Floats

    def together(self, rows: Ints, last: Ints) -> Floats:
        """Return the count of each candidate as a neighbour of each of the last items ``(n, s)``.

        Args:
            rows: distinct item numbers of the candidates; -1 for unknown.
            last: item numbers of the last items; -1 for unknown.
        """
        out = np.zeros((len(rows), len(last)))
        if len(last):
            order = rows.argsort()
            _together(out, rows[order], order, last, self.offsets, self.items, self.counts)
        return out


SESSIONS = ("neighbour_ids", "neighbour_counts", "session_count")
"""Sessions that touched both items, and that touched the item."""
STEPS = ("next_ids", "next_counts", "next_total")
"""How often the neighbour was touched next, and how often anything was."""


def neighbours_of(
    table: pa.Table | None, index: Mapping[str, int], columns: tuple[str, str, str] = SESSIONS
) -> Neighbours:
    """Return neighbours from the rows of `item_neighbours`; items not in `index` are left out on both sides.

    Args:
        columns: neighbours, their counts and the total; a build without them has none.
    """
    n = len(index)
    if table is None or not {*columns} <= {*table.column_names}:
        none = np.zeros(0)
        return Neighbours(np.zeros(n + 1, np.intp), none.astype(np.intp), none, np.zeros(n + 1))
    get = index.get
    owner = np.array([get(i, -1) for i in table["item_id"].to_pylist()], np.intp)
    ids = list_of(table[columns[0]])
    lengths = np.diff(bounds_of(ids))
    flat = np.array([get(i, -1) for i in ids.flatten().to_pylist()], np.intp)
    counts = floats_of(list_of(table[columns[1]]).flatten(), 0.0)
    source = np.where(flat < 0, -1, np.repeat(owner, lengths))
    order = np.argsort(source, kind="stable")[int((source < 0).sum()) :]
    per_item = np.bincount(source[order], minlength=n)
    totals = np.zeros(n + 1)
    totals[owner[owner >= 0]] = floats_of(table[columns[2]], 0.0)[owner >= 0]
    offsets = np.concatenate([[0], np.cumsum(per_item)]).astype(np.intp)
    return Neighbours(offsets, flat[order], counts[order], totals)


@compiled
def _together(
    out: Floats, ascending: Ints, order: Ints, last: Ints, offsets: Ints, neighbours: Ints, counts: Floats
) -> None:
    """Find each neighbour of the last items among the candidates, by binary search, and write its count.

    Args:
        ascending, order: item numbers in ascending order, and the candidate of each.
    """
    for s in range(len(last)):
        if last[s] >= 0:
            for k in range(offsets[last[s]], offsets[last[s] + 1]):
                low, high = 0, len(ascending)
                while low < high:
                    middle = (low + high) >> 1
                    if ascending[middle] < neighbours[k]:
                        low = middle + 1
                    else:
                        high = middle
                if low < len(ascending) and ascending[low] == neighbours[k]:
                    out[order[low], s] = counts[k]
