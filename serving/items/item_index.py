"""Item numbers by id, for all candidates of a request at once.

A dictionary of text is asked a thousand times for four places of memory each, which are nowhere near after
other work: 0.4 ms. Here the hash that Python keeps with a text is the key of a table of numbers, looked up in
one compiled loop whose reads do not wait for each other (docs/adr/0065).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat

import numpy as np

from feature_repo.arrays import Ints
from serving.scoring.compiled import compiled

STEP = 4096
"""Items that are entered at once."""


class ItemIndex:
    """Numbers of items, which stand in the order given.

    Texts are told apart by their hash alone: 64 bits, keyed by a secret of the process, so that a copy is of
    no use in another one. The chance that an unknown id has that of one of a million items is below 1e-12;
    where two items share one, all are looked up as text.

    Args:
        index: number by id.
    """

    def __init__(self, index: Mapping[str, int]) -> None:
        self._index = index
        size = 1 << (2 * len(index) + 1).bit_length()  # at most half full
        self._keys, self._numbers = np.zeros(size, np.int64), np.full(size, -1, np.int64)
        item_ids, values = list(index), np.fromiter(index.values(), np.int64, len(index))
        # In steps, between which rankings under way get the interpreter.
        steps = (slice(start, start + STEP) for start in range(0, len(index), STEP))
        self._distinct = all(
            entered(_hashes(item_ids[step]), values[step], self._keys, self._numbers) for step in steps
        )

    def numbers(self, item_ids: Sequence[str]) -> Ints:
        """Item numbers, -1 where unknown."""
        if self._distinct:
            return found(_hashes(item_ids), self._keys, self._numbers)
        return np.fromiter(map(self._index.get, item_ids, repeat(-1)), np.intp, len(item_ids))


def _hashes(item_ids: Sequence[str]) -> Ints:
    return np.fromiter(map(hash, item_ids), np.int64, len(item_ids))


def entered(hashes: Ints, values: Ints, keys: Ints, numbers: Ints) -> bool:
    """Enter hashes and their numbers into a table of a power of two; False where two are the same.

    In rounds: each takes its slot if that is free and nobody before it wants it, else goes on to the next.
    Not compiled: it is called when a build is loaded.
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
    """The number of each hash, -1 where it is not in the table."""
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
