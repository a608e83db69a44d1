"""Attribute values of all items as arrays: what log-odds and affinities are summed over."""

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
"""Attribute types with signals of their own; those with the fewest occurrences beyond that are left out."""


class Occurrences(NamedTuple):
    """What compiled loops read of `Attributes`: the same arrays, and the number of types."""

    types: int
    type_of: Ints
    share: Floats
    offsets: Ints
    values: Ints


class Spans:
    """Values of item after item in one array: where those of some items stand.

    Args:
        offsets: ``n + 1`` bounds of the items.
    """

    def __init__(self, offsets: Ints) -> None:
        self._starts = offsets
        # A zero behind the last is that of item -1, which is unknown and has none.
        self._lengths = np.append(np.diff(offsets), 0)

    def of(self, rows: Ints) -> tuple[Ints, Ints]:
        """Places of the values of some items, flat, and how many each has; -1 is an unknown item."""
        lengths = self._lengths[rows]
        ends = lengths.cumsum()
        places = np.arange(ends[-1] if len(ends) else 0)
        places += (self._starts[rows] - ends + lengths).repeat(lengths)
        return places, lengths


@dataclass(frozen=True, eq=False)
class Attributes:
    """The values of ``n`` items in compressed rows.

    Attributes:
        ids: number of each attribute value (``type:value``).
        types: attribute types, alphabetical.
        type_of: type number of each value ``(size,)``.
        share: share of a value among the occurrences of its type: what chance alone would touch ``(size,)``.
        offsets: ``n + 1`` bounds into `values`.
        values: value numbers of item after item.
    """

    ids: Mapping[str, int]
    types: tuple[str, ...]
    type_of: Ints
    share: Floats
    offsets: Ints
    values: Ints

    @cached_property
    def spans(self) -> Spans:
        """Where the values of each item stand in `values`."""
        return Spans(self.offsets)

    @cached_property
    def rarity(self) -> tuple[Floats, Floats]:
        """Squared weight of each value, log(share)², and the length of each item by these weights."""
        squared = np.log(self.share) ** 2
        owner = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        sums = np.bincount(owner, squared[self.values], len(self.offsets) - 1)
        return squared, np.sqrt(sums)

    @cached_property
    def occurrences(self) -> Occurrences:
        """The arrays alone."""
        return Occurrences(len(self.types), self.type_of, self.share, self.offsets, self.values)

    def numbers(self, keys: Sequence[str]) -> tuple[Ints, Ints]:
        """Numbers of the keys that some item has, and their places in `keys`."""
        numbers = np.fromiter(map(self.ids.get, keys, repeat(-1)), np.intp, len(keys))
        found = (numbers >= 0).nonzero()[0]
        return numbers[found], found


def attributes_of(attr_keys: pa.ListArray) -> Attributes:
    """Number the values of items.

    Args:
        attr_keys: per item its values as ``type:value`` (list of text; null is none).
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
    """Python lists of text as an Arrow list array."""
    return pa.array([list(row) for row in rows], pa.list_(pa.string()))
