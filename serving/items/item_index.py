"""Item numbers by id, for all candidates of a request at once.

Looking up 1,000 string keys in a dict takes 0.4 ms because the entries have left the CPU cache. This table is
keyed by the hash that Python caches in each string, and one compiled loop looks them all up, so that memory
accesses overlap (docs/adr/0065).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat

import numpy as np

from feature_repo.arrays import Ints
from serving.scoring.compiled import compiled

STEP = 4096
"""Number of items inserted at once."""


class ItemIndex:
    """Maps item ids to numbers.

    Strings are distinguished only by their 64-bit hash, which is keyed by a secret of the process, so the
    table is of no use in another process. The probability that an unknown id has the hash of one of a million
    items is below 1e-12. If two items share a hash, all ids are looked up as strings.

    Args:
        index: number by id.
    """

    def __init__(self, index: Mapping[str, int]) -> None:
        self._index = index
        size = 1 << (2 * len(index) + 1).bit_length()  # at most half full
        self._keys, self._numbers = np.zeros(size, np.int64), np.full(size, -1, np.int64)
        item_ids, values = list(index), np.fromiter(index.values(), np.int64, len(index))
        # In steps, so that concurrent rankings get the GIL in between.
        steps = (slice(start, start + STEP) for start in range(0, len(index), STEP))
        self._distinct = all(
            entered(_hashes(item_ids[step]), values[step], self._keys, self._numbers) for step in steps
        )

    def numbers(self, item_ids: Sequence[str]) -> Ints:
        """Return the item numbers, with -1 for unknown ids."""
        if self._distinct:
            return found(_hashes(item_ids), self._keys, self._numbers)
        return np.fromiter(map(self._index.get, item_ids, repeat(-1)), np.intp, len(item_ids))


def _hashes(item_ids: Sequence[str]) -> Ints:
    return np.fromiter(map(hash, item_ids), np.int64, len(item_ids))


def entered(hashes: Ints, values: Ints, keys: Ints, numbers: Ints) -> bool:
    """Insert hashes and their numbers into a table whose size is a power of two; return False on a duplicate.

    Open addressing in rounds: each hash takes its slot if it is free and no earlier hash wants it, or else
    tries the next slot. Not compiled: it runs only when a build is loaded.
    """
    last, left = len(keys) - 1, np.arange(len(hashes))
    at = hashes & last
    while len(left):
        slots = at[left]
        held = numbers[slots] >= 0
        if (held & (keys[slots] == hashes[left])).any():
            return False
        _, first = np.unique(slots[~held], return_index=True)
        placed = left[~held][first]
        keys[at[placed]], numbers[at[placed]] = hashes[placed], values[placed]
        waits = np.ones(len(hashes), bool)
        waits[placed] = False
        left = left[waits[left]]
        if (keys[at[left]] == hashes[left]).any():
            return False
        at[left] = (at[left] + 1) & last
    return True


def found(hashes: Ints, keys: Ints, numbers: Ints) -> Ints:
    """Return the number of each hash, with -1 for unknown ones."""
    out = np.empty(len(hashes), np.int64)
    _find(out, hashes, keys, numbers)
    return out


@compiled
def _find(out: Ints, hashes: Ints, keys: Ints, numbers: Ints) -> None:
    last = len(keys) - 1
    for i in range(len(hashes)):
        at = hashes[i] & last
        while numbers[at] >= 0 and keys[at] != hashes[i]:
            at = (at + 1) & last
        out[i] = numbers[at]
