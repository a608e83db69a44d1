"""Numbers for items and attribute values, so that profiles are array operations."""

from __future__ import annotations

import numpy as np

from feature_repo.arrays import Int64s
from feature_repo.catalogue import CATEGORY, Catalogue


class Vocabulary:
    """Numbers of items and of attribute values; attribute values are numbered in sorted order.

    Attributes:
        keys: attribute values, ascending; a value's number is its index here.
        types: for each attribute type, the range of its values in `keys` (values of one type are adjacent,
            because they share the prefix ``type:``).
        items: item ids by number; items missing from the catalogue are appended when first seen.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.keys = sorted({key for facts in catalogue.values() for key in facts.attr_keys})
        self.types = _ranges(self.keys)
        self.items = list(catalogue)
        self._number = {item: number for number, item in enumerate(self.items)}
        attr = {key: number for number, key in enumerate(self.keys)}
        self.attrs = [[attr[key] for key in facts.attr_keys] for facts in catalogue.values()]
        self._lengths = np.array([len(a) for a in self.attrs], dtype=np.int64)
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._flat = np.array([a for attrs in self.attrs for a in attrs], dtype=np.int64)

    @property
    def categories(self) -> tuple[int, int]:
        """Return the range of the category values in `keys`; empty if there are none."""
        return self.types.get(CATEGORY, (0, 0))

    def number(self, item_id: str) -> int:
        """Return an item's number, assigning one to a new item."""
        found = self._number.get(item_id)
        if found is None:
            found = self._number[item_id] = len(self.items)
            self.items.append(item_id)
            self.attrs.append([])
        return found

    def known(self, item_id: str) -> int | None:
        """Return an item's number if it has one."""
        return self._number.get(item_id)

    def spread(self, items: Int64s) -> tuple[Int64s, Int64s]:
        """Return the attribute values of items, flat.

        Returns:
            the numbers of all attribute values of all `items`, and for each the index of its item in `items`.
        """
        described = np.flatnonzero(items < len(self._lengths))
        items = items[described]
        lengths = self._lengths[items]
        source = np.repeat(described, lengths)
        within = np.arange(len(source)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self._flat[np.repeat(self._starts[items], lengths) + within], source


def _ranges(keys: list[str]) -> dict[str, tuple[int, int]]:
    ranges: dict[str, tuple[int, int]] = {}
    for number, key in enumerate(keys):
        kind = key.partition(":")[0]
        first, _ = ranges.get(kind, (number, number))
        ranges[kind] = (first, number + 1)
    return ranges
