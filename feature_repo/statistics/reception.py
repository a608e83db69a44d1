"""Reception of items: impressions, engagements, click-through rates, popularity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_repo.arrays import Floats, Int64s
from feature_repo.group import CTR_PRIOR, CTR_UNSHOWN, POSITIONS

MICROSECOND = 1e-6


@dataclass(frozen=True)
class ItemStats:
    """Reception of some items as of a time, one entry per requested item, in that order.

    Attributes:
        popularity: float64[n, 3]: short, mid and long half-life.
        popularity_total: float64[3]: the same summed over all items.
        first_seen_s: epoch seconds of the first event that touched the item; NaN if none did.
    """

    impressions: Floats
    clicks: Floats
    purchases: Floats
    ctr: Floats
    ctr_debiased: Floats
    popularity: Floats
    popularity_total: Floats
    first_seen_s: Floats


class Reception:
    """Counts by item number. Times are integer epoch microseconds, non-decreasing."""

    def __init__(self, half_lives_s: Sequence[float]) -> None:
        self._half_lives = np.array(half_lives_s)
        self._shown_at = np.zeros((0, POSITIONS))
        self._clicks = np.zeros(0)
        self._purchases = np.zeros(0)
        self._popularity = np.zeros((0, 3))
        self._last = np.zeros(0, dtype=np.int64)
        self._first = np.zeros(0, dtype=np.int64)
        self._shown = np.zeros(0)
        self._position_shown = np.zeros(POSITIONS)
        self._position_clicks = np.zeros(POSITIONS)
        self._clicks_of_shown = 0.0
        self._all_shown = 0.0
        self._total = np.zeros(3)
        self._total_last = 0
        self._slots: dict[str, list[list[int]]] = defaultdict(list)
        self._requested: dict[str, list[int]] = defaultdict(list)

    def _reserve(self, number: int) -> None:
        short = number + 1 - len(self._clicks)
        if short <= 0:
            return
        more = max(short, len(self._clicks), 1024)
        for name in ("_clicks", "_purchases", "_last", "_first", "_shown"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros(more, old.dtype)]))
        for name in ("_popularity", "_shown_at"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros((more, old.shape[1]))]))

    def show(self, items: list[int], request_id: str | None, time: int) -> None:
        """Count an impression; `items` are in the order shown."""
        self._reserve(max(items))
        numbers = np.array(items)
        positions = np.minimum(np.arange(len(items)), POSITIONS - 1)
        unseen = np.unique(numbers[self._shown[numbers] == 0])
        self._clicks_of_shown += float(self._clicks[unseen].sum())
        np.add.at(self._shown, numbers, 1.0)
        np.add.at(self._shown_at, (numbers, positions), 1.0)
        np.add.at(self._position_shown, positions, 1.0)
        self._all_shown += len(items)
        self._first[numbers] = np.where(self._first[numbers] == 0, time, self._first[numbers])
        if request_id is not None:
            self._slots[request_id].append(items)
            for item in self._requested.get(request_id, ()):
                self._place(item, items)

    def engage(self, item: int, weight: float, time: int, position: int | None, request: str | None) -> None:
        """Count an engagement at its own position, or else at each slot of its request with the item."""
        self._reserve(item)
        self._clicks[item] += 1.0
        if self._shown[item]:
            self._clicks_of_shown += 1.0
        self._popularity[item] = self._decayed(self._popularity[item], time - self._last[item]) + weight
        self._last[item] = time
        self._total = self._decayed(self._total, time - self._total_last) + weight
        self._total_last = time
        self._first[item] = self._first[item] or time
        if position is not None:
            self._position_clicks[min(position, POSITIONS - 1)] += 1.0
        elif request is not None:
            self._requested[request].append(item)
            for slots in self._slots.get(request, ()):
                self._place(item, slots)

    def buy(self, item: int) -> None:
        """Count an engagement, counted already, as a purchase."""
        self._purchases[item] += 1.0

    def _place(self, item: int, slots: list[int]) -> None:
        for position, shown in enumerate(slots):
            if shown == item:
                self._position_clicks[min(position, POSITIONS - 1)] += 1.0

    def _decayed(self, value: Floats, elapsed: npt.ArrayLike) -> Floats:
        age_s = np.asarray(elapsed, dtype=np.float64)[..., None] * MICROSECOND
        return np.asarray(value * np.exp2(-age_s / self._half_lives))

    @property
    def mean_ctr(self) -> float:
        """Return engagements per slot over the items that were shown."""
        return self._clicks_of_shown / self._all_shown if self._all_shown else CTR_UNSHOWN

    def ctr(self, items: Int64s) -> Floats:
        """Return the smoothed click-through rate of known items, by number."""
        mean = self.mean_ctr
        shown = self._shown[items]
        smoothed = (self._clicks[items] + CTR_PRIOR * mean) / (shown + CTR_PRIOR)
        return np.asarray(np.where(shown > 0, smoothed, mean))

    def read(self, items: Int64s, now: int) -> ItemStats:
        """Return the reception of items by number; -1 is an unknown item."""
        self._reserve(max(int(items.max(initial=0)), 0))
        met = items >= 0
        at = np.maximum(items, 0)
        shown = np.where(met, self._shown[at], 0.0)
        clicks = np.where(met, self._clicks[at], 0.0)
        rate = self._position_clicks / np.maximum(self._position_shown, 1.0)
        expected = np.where(met, self._shown_at[at] @ rate, 0.0)
        first = np.where(met, self._first[at], 0)
        popularity = np.where(met[:, None], self._decayed(self._popularity[at], now - self._last[at]), 0.0)
        return ItemStats(
            impressions=shown,
            clicks=clicks,
            purchases=np.where(met, self._purchases[at], 0.0),
            ctr=np.where(met, self.ctr(at), self.mean_ctr),
            ctr_debiased=(clicks + CTR_PRIOR) / (expected + CTR_PRIOR),
            popularity=popularity,
            popularity_total=self._decayed(self._total, now - self._total_last),
            first_seen_s=np.where(first == 0, np.nan, first * MICROSECOND),
        )
