"""Users with their preferences and segments, updated with each engagement."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np

from feature_repo.catalogue import CATEGORY, Catalogue, texts_of
from feature_repo.consent import permitted
from feature_repo.contract.normalization import normalized
from feature_repo.contract.validation import User
from feature_repo.group import BatchParams
from feature_repo.groups.segment_profile import EVERYONE
from feature_repo.statistics.pool import Pool, strongest
from feature_repo.statistics.vocabulary import Vocabulary

_MAX_HALVINGS = 400.0
"""Number of halvings after which sums are rescaled, well within the range of a float."""


@dataclass(slots=True)
class Member:
    """The known state of a user.

    Times are epoch microseconds: `times` by event type, ascending; `bought` by item, the last time.
    """

    pool: Pool = field(default_factory=Pool)
    declared: str | None = None
    categories: dict[int, float] = field(default_factory=dict)
    numerics: dict[str, list[float]] = field(default_factory=dict)
    times: dict[str, list[int]] = field(default_factory=dict)
    bought: dict[str, int] = field(default_factory=dict)
    last: int | None = None
    segment: str = EVERYONE


class Audience:
    """All users who may be profiled.

    Args:
        prices: prices by item number; grows with new items.
        records: newest record of each declared user.

    Attributes:
        users: by id.
        segments: pooled preferences by segment, including the overall one.
        members: users by segment.
        everybody: engagement of all users by attribute value, in the pools' scale.
    """

    def __init__(
        self,
        params: BatchParams,
        vocabulary: Vocabulary,
        catalogue: Catalogue,
        prices: Sequence[float | None],
        records: Mapping[str, User],
    ) -> None:
        self._params = params
        self._segment_attribute = normalized(params.segment_attribute)
        self._half_life_us = params.affinity_half_life / timedelta(microseconds=1)
        self._vocabulary = vocabulary
        self._catalogue = catalogue
        self._prices = prices
        self._records = records
        self._origin = 0
        self.everybody = np.zeros(len(vocabulary.keys))
        self.segments: dict[str, Pool] = {EVERYONE: Pool()}
        self.members: dict[str, int] = {}
        self.users: dict[str, Member] = {}
        for user_id, user in records.items():
            if self.consents(user_id, None):
                self._enter(user_id, user)

    def consents(self, user_id: str | None, stated: bool | None) -> bool:
        """Return whether an event with this statement may profile a user."""
        record = self._records.get(user_id) if user_id is not None else None
        return permitted(stated, None if record is None else record.consent, self._params.consent_default)

    def user(self, user_id: str) -> Member:
        """Return the user, created at the first call."""
        return self.users.get(user_id) or self._enter(user_id, self._records.get(user_id))

    def _enter(self, user_id: str, record: User | None) -> Member:
        user = self.users[user_id] = Member()
        if record is not None:
            user.declared = texts_of(record).get(self._segment_attribute)
        user.segment = user.declared or EVERYONE
        self.members[user.segment] = self.members.get(user.segment, 0) + 1
        self.segments.setdefault(user.segment, Pool())
        return user

    def engage(
        self, user: Member | None, slots: list[int], item: int | None, weight: float, time: int
    ) -> None:
        """Count items shown, and an item engaged with, for a user or an anonymous visitor."""
        amount = self._scale(time)
        pools: list[tuple[Pool, Pool | None]] = [(self.segments[EVERYONE], None)]
        if user is not None:
            pools.append((user.pool, None))
            if user.segment != EVERYONE:
                pools.append((self.segments[user.segment], user.pool))
        for slot in slots:
            for pool, giver in pools:
                pool.show(slot, amount, giver)
        if item is None:
            return
        amount *= weight
        if user is not None:
            self._taste(user, item, amount)
        for pool, giver in pools:
            pool.engage(item, amount, self._prices[item], giver)
        self.everybody[self._vocabulary.attrs[item]] += amount
        if user is not None:
            self._resettle(user, time)

    def _taste(self, user: Member, item: int, amount: float) -> None:
        """Update categories and, at the first engagement with an item, numeric attributes."""
        first, end = self._vocabulary.categories
        for attr in self._vocabulary.attrs[item]:
            if first <= attr < end:
                user.categories[attr] = user.categories.get(attr, 0.0) + amount
        facts = self._catalogue.get(self._vocabulary.items[item])
        if facts is not None and item not in user.pool.clicks:
            for name, value in facts.numerics.items():
                insort(user.numerics.setdefault(name, []), value)

    def _resettle(self, user: Member, time: int) -> None:
        """Move the user to the segment of the strongest category, unless one is declared."""
        if user.declared is not None or not user.categories:
            return
        attrs = sorted(user.categories)
        scores = np.array([user.categories[a] for a in attrs]) / self._scale(time)
        strongest_key = self._vocabulary.keys[attrs[strongest(scores, 1)[0]]]
        segment = f"likes:{strongest_key.removeprefix(f'{CATEGORY}:')}"
        if segment == user.segment:
            return
        self.members[user.segment] -= 1
        self.members[segment] = self.members.get(segment, 0) + 1
        if user.segment != EVERYONE:
            self.segments[user.segment].leave(user.pool, self._prices)
        self.segments.setdefault(segment, Pool()).join(user.pool, self._prices)
        user.segment = segment

    def _scale(self, time: int) -> float:
        """Return an event's weight in the pools' scale: 1 at the origin, doubling every half-life."""
        if not self._origin:
            self._origin = time
        halvings = (time - self._origin) / self._half_life_us
        if halvings <= _MAX_HALVINGS:
            return float(2.0**halvings)
        factor = 2.0**-halvings if halvings < 2 * _MAX_HALVINGS else 0.0
        self.everybody *= factor
        for pool in [*self.segments.values(), *(u.pool for u in self.users.values())]:
            pool.rescale(factor)
        for user in self.users.values():
            user.categories = {attr: amount * factor for attr, amount in user.categories.items()}
        self._origin = time
        return 1.0

    def unit(self, now: int) -> float:
        """Return the value of one unit of the pools' scale at a time."""
        return float(2.0 ** (-max(now - self._origin, 0) / self._half_life_us))
