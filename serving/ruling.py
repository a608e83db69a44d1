"""Applies business rules to an order. Pure: the same rules and candidates give the same order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Fixed:
    """What rules decide whatever the order.

    Attributes:
        candidates: those they drop, pin, or move to the end.
        others_keep: whether they leave the others in whatever order those have: not where they move some by a
            number of places, or limit a value that more candidates have.
    """

    candidates: frozenset[int]
    others_keep: bool


def fixed_by(
    rules: Rules, order: Ints, item_ids: Sequence[str], snapshot: ItemSnapshot | None, bought: Collection[str]
) -> Fixed:
    """What rules decide whatever the order; arguments as of `apply_rules`."""
    found = _Ruling(order, item_ids, snapshot, bought)
    for rule in rules.rules:
        if isinstance(rule, Exclude):
            found.apply(rule)
    fixed, others_keep = set(found.dropped), True
    for rule in rules.rules:
        match rule:
            case Demote() if rule.by is not None:
                others_keep = others_keep and not found.matched(rule)
            case Demote():
                fixed |= found.matched(rule)
            case AtMost():
                others_keep = others_keep and not found.limits(rule)
            case Pin():
                fixed.update(found.pinned(rule))
    return Fixed(frozenset(fixed), others_keep)


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
                matched = self.matched(rule)
                self.dropped.update((i, rule.name) for i in self.order if i in matched)
                self.order = [i for i in self.order if i not in matched]
            case Demote():
                self._demote(rule)
            case AtMost():
                self._at_most(rule)
            case Pin():
                self._pin(rule)

    def matched(self, rule: Exclude | Demote) -> set[int]:
        """Candidates of the order that a rule is about."""
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
        matched = self.matched(rule)
        steps = len(self.order) if rule.by is None else rule.by
        # Half a place further than asked for: behind the item whose position it takes, which moves up.
        wanted = {i: p + (steps + 0.5 if i in matched else 0.0) for p, i in enumerate(self.order)}
        self.moved.update((i, rule.name) for i in self.order if i in matched)
        self.order.sort(key=wanted.__getitem__)

    def limits(self, rule: AtMost) -> bool:
        """Whether more candidates share a value than a rule lets stand."""
        counts = Counter(value for candidate in self.order for value in self._values_of(candidate, rule.type))
        return max(counts.values(), default=0) > rule.count

    def _values_of(self, candidate: int, kind: str) -> list[int]:
        """Numbers of a candidate's values of an attribute type."""
        snapshot = self._snapshot
        if snapshot is None or kind not in snapshot.attributes.types:
            return []
        number, type_of = snapshot.attributes.types.index(kind), snapshot.attributes.type_of
        return [v for v in self._of(candidate) if type_of[v] == number]

    def _at_most(self, rule: AtMost) -> None:
        counts: Counter[int] = Counter()
        kept: list[int] = []
        over: list[int] = []
        for place, candidate in enumerate(self.order):
            if rule.first is not None and len(kept) >= rule.first:
                rest = self.order[place:]
                break
            values = self._values_of(candidate, rule.type)
            if any(counts[v] >= rule.count for v in values):
                over.append(candidate)
                continue
            kept.append(candidate)
            counts.update(values)
        else:
            rest = []
        if rule.first is None:
            self.dropped.update((i, rule.name) for i in over)
            self.order = kept
        else:
            self.moved.update((i, rule.name) for i in over)
            self.order = kept + over + rest

    def pinned(self, rule: Pin) -> list[int]:
        """Candidates of the order that a rule pins, in its order."""
        at = {self._item_ids[i]: i for i in self.order}
        here = items_of(rule) & at.keys()
        return [at[item_id] for item_id in dict.fromkeys(rule.items) if item_id in here] if here else []

    def _pin(self, rule: Pin) -> None:
        pinned = self.pinned(rule)
        chosen = set(pinned)
        others = [i for i in self.order if i not in chosen]
        place = min(rule.position, len(others))
        self.moved.update((i, rule.name) for i in pinned)
        self.order = [*others[:place], *pinned, *others[place:]]
