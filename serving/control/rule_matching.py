"""Which candidates of a request a business rule is about: by item id and by attribute value."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cached_property

import numpy as np

from feature_repo.arrays import Bools, Ints
from serving.items.item_snapshot import ItemSnapshot

_NONE = np.zeros(0, np.intp)


class Matches:
    """The candidates, indexed once and only as far as rules ask: there may be hundreds of rules.

    Args:
        item_ids: by candidate index.
        snapshot: knows attributes; without it none match.
    """

    def __init__(self, item_ids: Sequence[str], snapshot: ItemSnapshot | None) -> None:
        self._item_ids = item_ids
        self._snapshot = snapshot

    @cached_property
    def at(self) -> dict[str, int]:
        """Candidate index by item id."""
        return dict(zip(self._item_ids, range(len(self._item_ids)), strict=True))

    @cached_property
    def _ids(self) -> frozenset[str]:
        return frozenset(self._item_ids)

    def among(self, items: Collection[str]) -> frozenset[str]:
        """Which of these items are candidates; of two sets the smaller is walked, for a list may be long."""
        return self._ids & frozenset(items)

    def mask(self, items: Collection[str], attributes: Iterable[str]) -> Bools:
        """Whether each candidate is one of these items or has one of these attribute values."""
        found = np.zeros(len(self._item_ids), bool)
        if items:
            here = self.among(items)
            found[np.fromiter(map(self.at.__getitem__, here), np.intp, len(here))] = True
        for key in attributes:
            found[self._with(key)] = True
        return found

    def of_type(self, kind: str) -> tuple[Ints, Ints]:
        """Candidate and value number of each occurrence of an attribute type."""
        snapshot = self._snapshot
        if snapshot is None or kind not in snapshot.attributes.types:
            return _NONE, _NONE
        values, owners = self._occurrences
        wanted = snapshot.attributes.type_of[values] == snapshot.attributes.types.index(kind)
        return owners[wanted], values[wanted]

    @cached_property
    def _occurrences(self) -> tuple[Ints, Ints]:
        """Value number and candidate of each attribute value of each candidate, ascending by value."""
        if self._snapshot is None:
            return _NONE, _NONE
        attributes = self._snapshot.attributes
        count = len(self._item_ids)
        rows = self._snapshot.numbers(self._item_ids)
        places, lengths = attributes.spans.of(rows)
        values, owners = attributes.values[places], np.arange(count).repeat(lengths)
        order = values.argsort(kind="stable")
        return values[order], owners[order]

    def _with(self, key: str) -> Ints:
        """Candidates that have an attribute value."""
        number = None if self._snapshot is None else self._snapshot.attributes.ids.get(key)
        if number is None:
            return _NONE
        values, owners = self._occurrences
        return owners[slice(*values.searchsorted((number, number + 1)))]
