"""Simulates delivery faults: duplicates, late arrivals and unreadable lines, in order of arrival."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.arrays import Int64s
from streaming.simulator.shop import Shop
from streaming.simulator.shop_events import make_day
from streaming.simulator.table import EVENT_SCHEMA, event_table, session_table

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Counts:
    """Event lines by cause. `events` counts distinct ones, including the `late` ones."""

    events: int = 0
    duplicates: int = 0
    late: int = 0
    malformed: int = 0
    by_type: Counter[str] = field(default_factory=Counter)

    @property
    def lines(self) -> int:
        """Number of lines delivered."""
        return self.events + self.duplicates + self.malformed

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.events + other.events,
            self.duplicates + other.duplicates,
            self.late + other.late,
            self.malformed + other.malformed,
            self.by_type + other.by_type,
        )


@dataclass(frozen=True)
class Delivery:
    """The arrivals of one day.

    Attributes:
        table: readable events in order of arrival, including duplicates; columns `EVENT_SCHEMA`.
        malformed: ascending rows of `table` after which a broken copy arrives.
        sessions: ground truth of the sessions that began this day.
        counts: counts of events that happened this day (late ones are delivered later).
    """

    table: pa.Table
    malformed: Int64s
    sessions: pa.Table
    counts: Counts


def deliver(shop: Shop) -> Iterator[Delivery]:
    """Yield deliveries day by day; memory holds one day and the events of earlier days still in transit."""
    config = shop.config
    under_way = EVENT_SCHEMA.empty_table()
    arrivals = np.zeros(0, np.int64)
    for day in range(config.days):
        made = make_day(shop, day)
        rng = np.random.default_rng([config.seed, day + 1, 1])
        n = len(made.events.type)
        late = rng.random(n) < config.late
        arrival = made.events.time_ms + rng.exponential(300, n).astype(np.int64)
        arrival += np.where(late, rng.integers(900_000, 72_000_000, n), 0)
        again = np.flatnonzero(rng.random(n) < config.duplicates)
        fresh = event_table(shop, made)
        rows = np.concatenate([np.arange(n), again])
        arrival = np.concatenate(
            [arrival, arrival[again] + rng.exponential(30_000, len(again)).astype(np.int64)]
        )
        table = pa.concat_tables([under_way, fresh.take(pa.array(rows))])
        arrivals = np.concatenate([arrivals, arrival])
        order = np.argsort(arrivals, kind="stable")
        ends = np.inf if day == config.days - 1 else (day + 1) * DAY_MS
        now, later = order[arrivals[order] < ends], order[arrivals[order] >= ends]
        delivered, under_way, arrivals = (
            table.take(pa.array(now)),
            table.take(pa.array(later)),
            arrivals[later],
        )
        malformed = np.flatnonzero(rng.random(len(now)) < config.malformed)
        types = {v["values"]: v["counts"] for v in pc.value_counts(fresh["event_type"]).to_pylist()}
        counts = Counts(n, len(again), int(late.sum()), len(malformed), Counter(types))
        yield Delivery(delivered, malformed, session_table(shop, made), counts)
