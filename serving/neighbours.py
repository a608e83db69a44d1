"""Which items go together: co-visitation counts in compressed rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from serving.attributes import Floats, Ints
from serving.columns import bounds_of, floats_of, list_of


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Neighbours of each item in compressed rows, and the sessions that touched it."""

    offsets: Ints
    items: Ints
    counts: Floats
    sessions: Floats

    def together(self, rows: Ints, last: Ints) -> Floats:
        """Sessions that touched both each candidate and each of the last items ``(n, s)``.

        Args:
            rows: item numbers of the candidates, each once; -1 for unknown.
            last: item numbers of the last items, -1 for unknown.
        """
        out = np.zeros((len(rows), len(last)))
        if not out.size:
            return out
        spans = [
            slice(*self.offsets[item : item + 2].tolist()) if item >= 0 else slice(0)
            for item in last.tolist()
        ]
        items = np.concatenate([self.items[span] for span in spans])
        order = rows.argsort()
        ordered = rows[order]
        place = ordered.searchsorted(items)
        np.minimum(place, len(ordered) - 1, out=place)
        hit = (ordered[place] == items).nonzero()[0]
        if len(hit):
            column = np.arange(len(last)).repeat([span.stop - (span.start or 0) for span in spans])
            counts = np.concatenate([self.counts[span] for span in spans])
            out[order[place[hit]], column[hit]] = counts[hit]
        return out


def neighbours_of(table: pa.Table | None, index: Mapping[str, int]) -> Neighbours:
    """Neighbours from the rows of `item_neighbours`; items not in `index` are left out on both sides."""
    n = len(index)
    if table is None:
        none = np.zeros(0)
        return Neighbours(np.zeros(n + 1, np.intp), none.astype(np.intp), none, np.zeros(n))
    get = index.get
    owner = np.array([get(i, -1) for i in table["item_id"].to_pylist()], np.intp)
    ids = list_of(table["neighbour_ids"])
    lengths = np.diff(bounds_of(ids))
    flat = np.array([get(i, -1) for i in ids.flatten().to_pylist()], np.intp)
    counts = floats_of(list_of(table["neighbour_counts"]).flatten(), 0.0)
    source = np.where(flat < 0, -1, np.repeat(owner, lengths))
    order = np.argsort(source, kind="stable")[int((source < 0).sum()) :]
    per_item = np.bincount(source[order], minlength=n)
    sessions = np.zeros(n)
    sessions[owner[owner >= 0]] = floats_of(table["session_count"], 0.0)[owner >= 0]
    offsets = np.concatenate([[0], np.cumsum(per_item)]).astype(np.intp)
    return Neighbours(offsets, flat[order], counts[order], sessions)
