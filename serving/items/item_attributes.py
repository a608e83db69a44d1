"""Attribute values of all items as arrays, for summing log-odds and affinities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.arrays import Floats, Ints

MAX_TYPES = 32
"""Maximum number of attribute types with their own signals; the rarest types are omitted."""


class Occurrences(NamedTuple):
    """The arrays of `Attributes` for compiled loops, and the number of types."""

    types: int
    type_of: Ints
    share: Floats
    offsets: Ints
    values: Ints


class Spans:
    """Finds the values of items in a flat array of all items' values.

    Args:
        offsets: ``n + 1`` bounds of the items.
    """

    def __init__(self, offsets: Ints) -> None:
        self._starts = offsets
        # The appended zero belongs to item -1, the unknown item.
        self._lengths = np.append(np.diff(offsets), 0)

    def of(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return the flat places of the items' values, and the number of values of each; -1 is unknown."""
        lengths = self._lengths[rows]
        ends = lengths.cumsum()
        places = np.arange(ends[-1] if len(ends) else 0)
        places += (self._starts[rows] - ends + lengths).repeat(lengths)
        return places, lengths


@dataclass(frozen=True, eq=False)
class Attributes:
    """The attribute values of ``n`` items in compressed sparse rows.

    Attributes:
        ids: number of each attribute value (``type:value``).
        types: attribute types, alphabetical.
        type_of: type number of each value ``(size,)``.
        share: share of each value among the occurrences of its type ``(size,)``; the affinity by chance.
        offsets: ``n + 1`` bounds into `values`.
        values: value numbers of all items, one item after the other.
    """

    ids: Mapping[str, int]
    types: tuple[str, ...]
    type_of: Ints
    share: Floats
    offsets: Ints
    values: Ints

    @cached_property
    def spans(self) -> Spans:
        """Places of each item's values in `values`."""
        return Spans(self.offsets)

    @cached_property
    def rarity(self) -> tuple[Floats, Floats]:
        """Squared weight of each value, log(share)², and the length of each item's weight vector."""
        squared = np.log(self.share) ** 2
        owner = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        sums = np.bincount(owner, squared[self.values], len(self.offsets) - 1)
        return squared, np.sqrt(sums)

    @cached_property
    def occurrences(self) -> Occurrences:
        """The arrays for compiled loops."""
        return Occurrences(len(self.types), self.type_of, self.share, self.offsets, self.values)

    def numbers(self, keys: Sequence[str]) -> tuple[Ints, Ints]:
        """Return the numbers of the known keys, and their places in `keys`."""
        numbers = np.fromiter(map(self.ids.get, keys, repeat(-1)), np.intp, len(keys))
        found = (numbers >= 0).nonzero()[0]
        return numbers[found], found


def attributes_of(attr_keys: pa.ListArray) -> Attributes:
    """Number the values of items.

    Args:
        attr_keys: values of each item as ``type:value``; null for none.
    """
    lengths = pc.fill_null(pc.list_value_length(attr_keys), 0).to_numpy(zero_copy_only=False)
    coded = attr_keys.flatten().dictionary_encode()
    keys: list[str] = coded.dictionary.to_pylist()
    flat = coded.indices.to_numpy(zero_copy_only=False).astype(np.intp)
    counts = np.bincount(flat, minlength=len(keys)).astype(np.float64)
    names, type_of = np.unique([key.partition(":")[0] for key in keys], return_inverse=True)
    per_type = np.bincount(type_of, counts, len(names))
    types = np.sort(np.argsort(-per_type, kind="stable")[:MAX_TYPES])
    number = np.full(len(names), -1, np.intp)
    number[types] = np.arange(len(types))
    kept = number[type_of] >= 0 if len(keys) else np.zeros(0, bool)
    renumbered = np.cumsum(kept) - 1
    owner = np.repeat(np.arange(len(lengths)), lengths)[kept[flat]]
    return Attributes(
        ids={key: int(n) for key, n, keep in zip(keys, renumbered, kept, strict=True) if keep},
        types=tuple(str(names[t]) for t in types),
        type_of=number[type_of][kept].astype(np.intp) if len(keys) else np.zeros(0, np.intp),
        share=(counts / per_type[type_of])[kept] if len(keys) else np.zeros(0),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(lengths)))]).astype(np.intp),
        values=renumbered[flat[kept[flat]]].astype(np.intp),
    )


def as_lists(rows: Iterable[Iterable[str]]) -> pa.ListArray:
    """Convert Python lists of strings to an Arrow list array."""
    return pa.array([list(row) for row in rows], pa.list_(pa.string()))
