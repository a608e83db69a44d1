"""Applies business rules to an order. Pure: the same rules and candidates give the same order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

import numpy as np

from serving.attributes import Ints
from serving.rules import AtMost, Demote, Exclude, Pin, Rule, Ruled, Rules, items_of
from serving.snapshot import ItemSnapshot

R = TypeVar("R", bound=Rule)


def apply_rules(
    rules: Rules,
    order: Ints,
    item_ids: Sequence[str],
    snapshot: ItemSnapshot | None,
    bought: Collection[str] = (),
) -> Ruled:
    """Apply all rules.

    Args:
        order: candidate indices, best first.
        item_ids: by candidate index.
        snapshot: knows attributes; without it rules match by item id only.
        bought: items the user bought.
    """
    if not rules.rules:
        return Ruled(order)
    found = _Ruling(order, item_ids, snapshot, bought)
    for kind in (Exclude, Demote, AtMost, Pin):
        for rule in rules.rules:
            if isinstance(rule, kind):
                found.apply(rule)
    return Ruled(np.array(found.order, np.intp), tuple(found.dropped.items()), found.moved)


def excluded(
    rules: Rules, order: Ints, item_ids: Sequence[str], snapshot: ItemSnapshot | None, bought: Collection[str]
) -> Ints:
    """Which candidates of an order the rules take out wherever they stand."""
    only = Rules(tuple(rule for rule in rules.rules if isinstance(rule, Exclude)))
    return np.array([i for i, _ in apply_rules(only, order, item_ids, snapshot, bought).dropped], np.intp)


class _Ruling:
    """State while rules are applied."""

    def __init__(
        self, order: Ints, item_ids: Sequence[str], snapshot: ItemSnapshot | None, bought: Collection[str]
    ) -> None:
        self.order: list[int] = order.tolist()
        self.dropped: dict[int, str] = {}
        self.moved: dict[int, str] = {}
        self._item_ids = item_ids
        self._bought = frozenset(bought)
        self._values: dict[int, list[int]] = {}
        self._snapshot = snapshot

    def apply(self, rule: Rule) -> None:
        match rule:
            case Exclude():
                matched = self._matched(rule)
                self.dropped.update((i, rule.name) for i in self.order if i in matched)
                self.order = [i for i in self.order if i not in matched]
            case Demote():
                self._demote(rule)
            case AtMost():
                self._at_most(rule)
            case Pin():
                self._pin(rule)

    def _matched(self, rule: Exclude | Demote) -> set[int]:
        items = items_of(rule)
        matched = {i for i in self.order if self._item_ids[i] in items} if items else set()
        if isinstance(rule, Exclude) and rule.bought and self._bought:
            matched |= {i for i in self.order if self._item_ids[i] in self._bought}
        if rule.attributes and self._snapshot is not None:
            ids = self._snapshot.attributes.ids
            wanted = {ids[key] for key in rule.attributes if key in ids}
            if wanted:
                matched |= {i for i in self.order if not wanted.isdisjoint(self._of(i))}
        return matched

    def _of(self, candidate: int) -> list[int]:
        """Attribute value numbers of a candidate."""
        if candidate not in self._values:
            snapshot = self._snapshot
            number = None if snapshot is None else snapshot.index.get(self._item_ids[candidate])
            if snapshot is None or number is None:
                self._values[candidate] = []
            else:
                start, stop = snapshot.attributes.offsets[number : number + 2].tolist()
                self._values[candidate] = snapshot.attributes.values[start:stop].tolist()
        return self._values[candidate]

    def _demote(self, rule: Demote) -> None:
        matched = self._matched(rule)
        steps = len(self.order) if rule.by is None else rule.by
        # Half a place further than asked for: behind the item whose position it takes, which moves up.
        wanted = {i: p + (steps + 0.5 if i in matched else 0.0) for p, i in enumerate(self.order)}
        self.moved.update((i, rule.name) for i in self.order if i in matched)
        self.order.sort(key=wanted.__getitem__)

    def _at_most(self, rule: AtMost) -> None:
        snapshot = self._snapshot
        if snapshot is None or rule.type not in snapshot.attributes.types:
            return
        kind = snapshot.attributes.types.index(rule.type)
        type_of = snapshot.attributes.type_of
        counts: dict[int, int] = {}
        kept: list[int] = []
        over: list[int] = []
        for place, candidate in enumerate(self.order):
            if rule.first is not None and len(kept) >= rule.first:
                rest = self.order[place:]
                break
            values = [v for v in self._of(candidate) if type_of[v] == kind]
            if any(counts.get(v, 0) >= rule.count for v in values):
                over.append(candidate)
                continue
            kept.append(candidate)
            for value in values:
                counts[value] = counts.get(value, 0) + 1
        else:
            rest = []
        if rule.first is None:
            self.dropped.update((i, rule.name) for i in over)
            self.order = kept
        else:
            self.moved.update((i, rule.name) for i in over)
            self.order = kept + over + rest

    def _pin(self, rule: Pin) -> None:
        at = {self._item_ids[i]: i for i in self.order}
        here = items_of(rule) & at.keys()
        pinned = [at[item_id] for item_id in dict.fromkeys(rule.items) if item_id in here] if here else []
        chosen = set(pinned)
        others = [i for i in self.order if i not in chosen]
        place = min(rule.position, len(others))
        self.moved.update((i, rule.name) for i in pinned)
        self.order = [*others[:place], *pinned, *others[place:]]
