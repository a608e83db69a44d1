"""Which items go together: co-visitation counts in compressed rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from feature_repo.arrays import Floats, Ints
from serving.items.arrow_arrays import bounds_of, floats_of, list_of
from serving.scoring.signal_matrix import together


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Neighbours of each of ``n`` items in compressed rows.

    Attributes:
        offsets: ``n + 1`` bounds into `items` and `counts`.
        sessions: that touched each item, and a zero behind the last: that of item -1, which is unknown.
    """

    offsets: Ints
    items: Ints
    counts: Floats
    sessions: Floats

    def together(self, rows: Ints, last: Ints) -> Floats:
        """Sessions that touched both each candidate and each of the last items ``(n, s)``.

        Args:
            rows: item numbers of the candidates, each once; -1 for unknown.
            last: item numbers of the last items; -1 for unknown.
        """
        return together(rows, last, self.offsets, self.items, self.counts)


def neighbours_of(table: pa.Table | None, index: Mapping[str, int]) -> Neighbours:
    """Neighbours from the rows of `item_neighbours`; items not in `index` are left out on both sides."""
    n = len(index)
    if table is None:
        none = np.zeros(0)
        return Neighbours(np.zeros(n + 1, np.intp), none.astype(np.intp), none, np.zeros(n + 1))
    get = index.get
    owner = np.array([get(i, -1) for i in table["item_id"].to_pylist()], np.intp)
    ids = list_of(table["neighbour_ids"])
    lengths = np.diff(bounds_of(ids))
    flat = np.array([get(i, -1) for i in ids.flatten().to_pylist()], np.intp)
    counts = floats_of(list_of(table["neighbour_counts"]).flatten(), 0.0)
    source = np.where(flat < 0, -1, np.repeat(owner, lengths))
    order = np.argsort(source, kind="stable")[int((source < 0).sum()) :]
    per_item = np.bincount(source[order], minlength=n)
    sessions = np.zeros(n + 1)
    sessions[owner[owner >= 0]] = floats_of(table["session_count"], 0.0)[owner >= 0]
    offsets = np.concatenate([[0], np.cumsum(per_item)]).astype(np.intp)
    return Neighbours(offsets, flat[order], counts[order], sessions)
