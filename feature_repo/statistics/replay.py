"""Statistics of users, segments, items and item pairs, fed event by event and readable at any moment."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import numpy as np

from feature_repo.catalogue import CATEGORY, PRICE, Catalogue
from feature_repo.clock import micros_of, time_of
from feature_repo.contract.validation import Event, User
from feature_repo.group import BatchParams
from feature_repo.groups.segment_profile import EVERYONE, TOP_ITEMS
from feature_repo.groups.user_profile import COUNTED, PURCHASED, WINDOWS_DAYS
from feature_repo.statistics.audience import Audience
from feature_repo.statistics.covisits import Covisits
from feature_repo.statistics.pool import (
    Affinity,
    Pool,
    affinity,
    columns,
    contenders,
    kept,
    quantile,
    strength,
    strongest,
)
from feature_repo.statistics.reception import ItemStats, Reception
from feature_repo.statistics.steps import Steps
from feature_repo.statistics.vocabulary import Vocabulary

_MICROSECOND = timedelta(microseconds=1)
_DAY_US = 86_400_000_000


class Statistics:
    """The batch groups' features as of any moment of a replay, without look-ahead.

    Feed events in time order with `add`. Every read names its `now`, and only events strictly before it
    count, whatever has been added. Reads must not go back in time. The values equal those of batch groups
    (to 1e-9, by test) whose look-back covers the whole replay, because nothing is forgotten here except by
    decay.

    Args:
        params: as for the batch expressions; `as_of` is not used.
        catalogue: facts of the items, all known from the start.
        users: newest record of each declared user.
    """

    def __init__(
        self,
        params: BatchParams,
        catalogue: Catalogue,
        users: Mapping[str, User] = MappingProxyType({}),
    ) -> None:
        self._params = params
        self._vocabulary = Vocabulary(catalogue)
        self._prices = [facts.price for facts in catalogue.values()]
        self._reception = Reception([h / timedelta(seconds=1) for h in params.popularity_half_lives])
        self._covisits = Covisits(params.session_gap // _MICROSECOND, params.neighbours_top_k)
        self._steps = Steps(params.session_gap // _MICROSECOND, params.neighbours_top_k)
        self._audience = Audience(params, self._vocabulary, catalogue, self._prices, users)
        self._pending: deque[tuple[int, Event]] = deque()
        self._added = self._applied = -(2**62)

    # Feeding

    def add(self, event: Event) -> None:
        """Process the next event.

        Raises:
            ValueError: it is older than the previous one.
        """
        time = micros_of(event.event_time)
        if time < self._added:
            msg = f"event {event.event_id} at {event.event_time} is older than the previous one; sort by time"
            raise ValueError(msg)
        self._added = time
        self._pending.append((time, event))

    def _advance(self, now: datetime) -> int:
        time = micros_of(now)
        if time <= self._applied:
            msg = f"a read as of {now} after events at or after it were applied; read in time order"
            raise ValueError(msg)
        while self._pending and self._pending[0][0] < time:
            self._applied, event = self._pending.popleft()
            self._apply(self._applied, event)
        return time

    def _apply(self, time: int, event: Event) -> None:
        weight = self._params.weights.get(event.event_type, 0.0) if event.item_id is not None else 0.0
        item = self._number(event.item_id) if event.item_id is not None and weight > 0 else None
        slots: list[int] = []
        if event.event_type == "impression":
            slots = [self._number(slot.item_id) for slot in event.items]
        if slots:
            self._reception.show(slots, event.request_id, time)
        if item is not None:
            self._reception.engage(item, weight, time, event.position, event.request_id)
            if event.event_type == "purchase":
                self._reception.buy(item)
        if not self._audience.consents(event.user_id, event.consent):
            return
        engaged = event.item_id if item is not None else None
        self._covisits.see(event.session_id, time, engaged)
        self._steps.see(event.session_id, time, engaged)
        user = None if event.user_id is None else self._audience.user(event.user_id)
        if user is not None:
            user.times.setdefault(event.event_type, []).append(time)
            user.last = time
            if event.event_type == "purchase" and event.item_id is not None:
                user.bought[event.item_id] = time
        self._audience.engage(user, slots, item, weight, time)

    def _number(self, item_id: str) -> int:
        number = self._vocabulary.number(item_id)
        if number == len(self._prices):
            self._prices.append(None)
        return number

    # Reading

    def user_profile(self, user_id: str, now: datetime) -> dict[str, Any] | None:
        """Return the features of `user_profile` by name, as the online store would."""
        time = self._advance(now)
        user = self._audience.users.get(user_id)
        if user is None:
            return None
        row: dict[str, Any] = {"segment": user.segment, **self._preferences(user.pool, time)}
        numerics = sorted(user.numerics)
        row["numeric_keys"] = numerics
        row["numeric_medians"] = [quantile(user.numerics[name], 0.5) for name in numerics]
        prices = user.numerics.get(PRICE, [])
        row["price_low"], row["price_median"], row["price_high"] = (
            quantile(prices, share) for share in (0.25, 0.5, 0.75)
        )
        for kind in COUNTED:
            times = user.times.get(kind, [])
            for days in WINDOWS_DAYS:
                row[f"{kind}_count_{days}d"] = len(times) - bisect_left(times, time - days * _DAY_US)
        newest = sorted(user.bought, key=lambda item_id: (-user.bought[item_id], item_id))
        row["purchased_items"] = newest[:PURCHASED]
        row["recency_days"] = None if user.last is None else (time - user.last) / _DAY_US
        row["last_event_time"] = None if user.last is None else time_of(user.last)
        return row

    def segment_profile(self, segment: str, now: datetime) -> dict[str, Any] | None:
        """Return the features of `segment_profile` by name; `None` for a segment without users."""
        time = self._advance(now)
        count = len(self._audience.users) if segment == EVERYONE else self._audience.members.get(segment, 0)
        if not count and segment != EVERYONE:
            return None
        pool = self._audience.segments[segment]
        return {
            "user_count": count,
            **self._preferences(pool, time),
            "top_items": self._top_items(pool, time),
            "price_median": quantile(pool.prices, 0.5),
        }

    def segment_of(self, user_id: str, now: datetime) -> str:
        """Return the user's segment; the overall one for an unknown user."""
        self._advance(now)
        user = self._audience.users.get(user_id)
        return EVERYONE if user is None else user.segment

    def items(self, item_ids: Sequence[str], now: datetime) -> ItemStats:
        """Return the reception of items, in the requested order; an unknown item has the prior."""
        time = self._advance(now)
        known = [self._vocabulary.known(item_id) for item_id in item_ids]
        numbers = np.array([-1 if n is None else n for n in known], dtype=np.int64)
        return self._reception.read(numbers, time)

    def neighbours(self, item_id: str, now: datetime) -> tuple[Mapping[str, int], int]:
        """Return `item_neighbours`: neighbours with counts, strongest first, and the number of sessions."""
        self._advance(now)
        return self._covisits.neighbours(item_id), self._covisits.sessions(item_id)

    def following(self, item_id: str, now: datetime) -> tuple[Mapping[str, int], int]:
        """Return what was touched next, most frequent first, and how often anything was."""
        self._advance(now)
        return self._steps.following(item_id)

    def _preferences(self, pool: Pool, time: int) -> dict[str, Any]:
        vocabulary = self._vocabulary
        unit = self._audience.unit(time)
        found = affinity(pool, vocabulary, self._reception.ctr, unit, self._audience.everybody)
        best = kept(found, vocabulary, self._params.affinity_top_k)
        categories, shares = self._categories(found)
        return {
            "attr_keys": [vocabulary.keys[a] for a in best.attrs.tolist()],
            "attr_clicks": best.clicks.tolist(),
            "attr_expected": best.expected.tolist(),
            "click_rate": best.click_rate,
            "categories": categories,
            "category_shares": shares,
        }

    def _top_items(self, pool: Pool, time: int) -> list[str]:
        numbers, amounts = columns(pool.clicks, self._audience.unit(time))
        places = contenders(amounts, TOP_ITEMS)
        names = (self._vocabulary.items[number] for number in numbers[places].tolist())
        ranked = sorted(zip((-strength(amounts[places])).tolist(), names, strict=True))
        return [name for _, name in ranked[:TOP_ITEMS]]

    def _categories(self, found: Affinity) -> tuple[list[str], list[float]]:
        start, stop = np.searchsorted(found.attrs, self._vocabulary.categories)
        clicks = found.clicks[start:stop]
        order = strongest(clicks, self._params.affinity_top_k)
        order = order[clicks[order] > 0]
        names = (self._vocabulary.keys[a] for a in found.attrs[start:stop][order].tolist())
        shares = clicks[order] / clicks.sum() if len(order) else clicks[order]
        return [name.removeprefix(f"{CATEGORY}:") for name in names], shares.tolist()
