"""Item features at a moment of a replay, in the arrays from which signals are computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from feature_repo.arrays import Floats, Ints
from feature_repo.catalogue import ItemFacts
from feature_repo.statistics import ItemStats, Statistics
from orchestration.evaluation.history import History
from serving.items.item_attributes import as_lists, attributes_of
from serving.items.item_rows import LAST_ITEMS, ItemRows, alone, signed_log
from serving.items.item_snapshot import MAX_NUMERICS

_NOTHING = ItemFacts(item_id="")


@dataclass(frozen=True, slots=True)
class ItemView:
    """Candidates at a moment; `popularity` is (engagements + 1) / (impressions + 5) so far."""

    rows: ItemRows
    popularity: Floats


class ReplayItems:
    """All items of a history: those of the catalogue and those that occur only in events."""

    def __init__(self, history: History, statistics: Statistics) -> None:
        catalogue = history.catalogue
        met = {slot.item_id for event in history.events for slot in event.items}
        met.update(event.item_id for event in history.events if event.item_id is not None)
        self._item_ids = [*catalogue, *sorted(met.difference(catalogue))]
        facts = [catalogue.get(item_id, _NOTHING) for item_id in self._item_ids]
        self._index = {item_id: number for number, item_id in enumerate(self._item_ids)}
        self._attributes = attributes_of(as_lists(f.attr_keys for f in facts))
        self._numeric_names = _numeric_names(facts)
        self._numerics = np.array(
            [[f.numerics.get(name, np.nan) for name in self._numeric_names] for f in facts], np.float64
        ).reshape(len(facts), len(self._numeric_names))
        self._created_s = np.array(
            [np.nan if f.created_at is None else f.created_at.timestamp() for f in facts], np.float64
        )
        self._statistics = statistics

    def view(self, item_ids: Sequence[str], touched: Sequence[str], now: datetime) -> ItemView:
        """Return the candidates as of `now`; `touched` lists the session's items, newest first."""
        stats = self._statistics.items(item_ids, now)
        rows = np.array([self._index[item_id] for item_id in item_ids], np.intp)
        last = touched[:LAST_ITEMS]
        together, sessions = _counts(item_ids, [self._statistics.neighbours(one, now) for one in last])
        seen = np.array([self._index.get(item_id, -1) for item_id in touched], np.intp)
        gathered = ItemRows(
            rows=rows,
            places=np.arange(len(rows)),
            attributes=self._attributes,
            alone=alone(
                stats.ctr,
                stats.clicks,
                stats.popularity,
                stats.ctr_debiased,
                self._age_days(rows, stats, now),
                stats.purchases,
                self._numerics[rows],
            ),
            share=self._share(stats),
            numeric_names=self._numeric_names,
            touched=seen,
            together=together,
            sessions=sessions,
            steps=lambda: _counts(item_ids, [self._statistics.following(one, now) for one in last]),
            last_numerics=signed_log(self._numerics[seen[0]])
            if len(seen) and seen[0] >= 0
            else np.full(len(self._numeric_names), np.nan),
        )
        return ItemView(gathered, (stats.clicks + 1.0) / (stats.impressions + 5.0))

    def _age_days(self, rows: Ints, stats: ItemStats, now: datetime) -> Floats:
        """Days since the items were created, else since they were first seen; nan where neither is known."""
        born = np.where(np.isnan(self._created_s[rows]), stats.first_seen_s, self._created_s[rows])
        age: Floats = np.maximum(now.timestamp() - born, 0.0) / 86_400.0
        return age

    def _share(self, stats: ItemStats) -> Floats:
        total = float(stats.popularity_total[2]) + len(self._item_ids)
        return np.asarray((stats.popularity[:, 2] + 1.0) / total, np.float64)


def _counts(item_ids: Sequence[str], found: Sequence[tuple[Mapping[str, int], int]]) -> tuple[Floats, Floats]:
    """Return each candidate's count with each of the last items ``(n, s)``, and the totals ``(s,)``."""
    counts = np.array([[by.get(item_id, 0) for by, _ in found] for item_id in item_ids], np.float64)
    return counts.reshape(len(item_ids), len(found)), np.array([total for _, total in found], np.float64)


def _numeric_names(facts: Sequence[ItemFacts]) -> tuple[str, ...]:
    """List the most common numeric attributes alphabetically, as in `serving.items.item_snapshot`."""
    counts: dict[str, int] = {}
    for item in facts:
        for name in item.numerics:
            counts[name] = counts.get(name, 0) + 1
    return tuple(sorted(sorted(counts, key=lambda name: (-counts[name], name))[:MAX_NUMERICS]))
