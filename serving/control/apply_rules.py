"""Applies business rules to an order. Pure: the same rules and candidates give the same order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TypeVar

import numpy as np

from feature_repo.arrays import Bools, Ints
from serving.control.rule_matching import Matches
from serving.control.rules import AtMost, Demote, Exclude, Pin, Rule, Ruled, Rules, items_of
from serving.items.item_snapshot import ItemSnapshot

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
        snapshot: holds the attributes; without it rules match by item id only.
        bought: items the user bought.
    """
    if not rules.rules:
        return Ruled(order)
    found = _Ruling(order, item_ids, snapshot, bought)
    for kind in (Exclude, Demote, AtMost, Pin):
        for rule in rules.rules:
            if isinstance(rule, kind):
                found.apply(rule)
    return Ruled(found.order, tuple(found.dropped.items()), found.moved)


@dataclass(frozen=True, slots=True)
class Fixed:
    """The effects of rules that do not depend on the order.

    Attributes:
        candidates: candidates that rules drop, pin, or move to the end.
        others_keep: whether the other candidates keep their relative order. They do not if a rule moves some
            by a number of positions, or limits a value that too many have.
    """

    candidates: frozenset[int]
    others_keep: bool


def fixed_by(
    rules: Rules, order: Ints, item_ids: Sequence[str], snapshot: ItemSnapshot | None, bought: Collection[str]
) -> Fixed:
    """Find the effects of rules that do not depend on the order; see `apply_rules` for the arguments."""
    found = _Ruling(order, item_ids, snapshot, bought)
    for rule in rules.rules:
        if isinstance(rule, Exclude):
            found.apply(rule)
    fixed, others_keep = set(found.dropped), True
    for rule in rules.rules:
        match rule:
            case Demote() if rule.by is not None:
                others_keep = others_keep and not found.matched(rule).any()
            case Demote():
                fixed.update(found.order[found.matched(rule)].tolist())
            case AtMost():
                others_keep = others_keep and not found.surplus(rule).any()
            case Pin():
                fixed.update(found.pinned(rule))
    return Fixed(frozenset(fixed), others_keep)


class _Ruling:
    """State while rules are applied; `order` holds the remaining candidates, best first."""

    def __init__(
        self, order: Ints, item_ids: Sequence[str], snapshot: ItemSnapshot | None, bought: Collection[str]
    ) -> None:
        self.order = order
        self.dropped: dict[int, str] = {}
        self.moved: dict[int, str] = {}
        self._matches = Matches(item_ids, snapshot)
        self._bought = frozenset(bought)

    def apply(self, rule: Rule) -> None:
        match rule:
            case Exclude():
                self._drop(self.matched(rule), rule)
            case Demote():
                self._demote(rule)
            case AtMost():
                self._at_most(rule)
            case Pin():
                self._pin(rule)

    def matched(self, rule: Exclude | Demote) -> Bools:
        """Whether a rule matches the candidate at each position of the order."""
        items = items_of(rule)
        if isinstance(rule, Exclude) and rule.bought:
            items |= self._bought
        return self._matches.mask(items, rule.attributes)[self.order]

    def _drop(self, gone: Bools, rule: Rule) -> None:
        self.dropped.update(zip(self.order[gone].tolist(), repeat(rule.name)))
        self.order = self.order[~gone]

    def _note(self, moved: Bools, rule: Rule) -> None:
        self.moved.update(zip(self.order[moved].tolist(), repeat(rule.name)))

    def _demote(self, rule: Demote) -> None:
        down = self.matched(rule)
        if not down.any():
            return
        self._note(down, rule)
        steps = len(self.order) if rule.by is None else rule.by
        # Half a position further, to go behind the item whose position it takes.
        self.order = self.order[(np.arange(len(down)) + (steps + 0.5) * down).argsort(kind="stable")]

    def surplus(self, rule: AtMost) -> Bools:
        """Mark the positions whose value already occurs `rule.count` times above."""
        owners, values = self._matches.of_type(rule.type)
        over = np.zeros(len(self.order), bool)
        if not len(values) or np.bincount(values).max() <= rule.count:
            return over
        place = np.full(len(self._matches.at), -1)
        place[self.order] = np.arange(len(self.order))
        places = place[owners]
        here = places >= 0
        places, values = places[here], values[here]
        sort = np.lexsort((values, places))
        places, values = places[sort], values[sort]
        if (places[1:] == places[:-1]).any():
            return _surplus_of_several(places, values, rule.count, over)
        by_value = values.argsort(kind="stable")
        grouped = values[by_value]
        before = np.arange(len(grouped)) - grouped.searchsorted(grouped)
        over[places[by_value]] = before >= rule.count
        return over

    def _at_most(self, rule: AtMost) -> None:
        over = self.surplus(rule)
        if rule.first is None:
            self._drop(over, rule)
            return
        stays = ~over
        stop = int((stays.cumsum() - stays).searchsorted(rule.first))
        over[stop:] = False
        self._note(over, rule)
        head, behind = self.order[:stop], self.order[stop:]
        self.order = np.concatenate([head[~over[:stop]], head[over[:stop]], behind])

    def pinned(self, rule: Pin) -> list[int]:
        """Return the remaining candidates that a rule pins, in its order."""
        here = self._matches.among(items_of(rule))
        if not here:
            return []
        at = self._matches.at
        left = set(self.order.tolist())
        return [at[i] for i in dict.fromkeys(rule.items) if i in here and at[i] in left]

    def _pin(self, rule: Pin) -> None:
        pinned = self.pinned(rule)
        if not pinned:
            return
        others = self.order[~np.isin(self.order, pinned)]
        place = min(rule.position, len(others))
        self.moved.update(zip(pinned, repeat(rule.name)))
        self.order = np.concatenate([others[:place], pinned, others[place:]])


def _surplus_of_several(places: Ints, values: Ints, count: int, over: Bools) -> Bools:
    """`surplus` for candidates with several values; a surplus candidate counts for none of its values."""
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    counts: Counter[int] = Counter()
    for place, of_place in zip(places[starts].tolist(), np.split(values, starts[1:].tolist()), strict=True):
        numbers = of_place.tolist()
        if any(counts[number] >= count for number in numbers):
            over[place] = True
        else:
            counts.update(numbers)
    return over
