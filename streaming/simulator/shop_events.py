"""Turns pages and clicks into timed events, as the shop's tracking would send them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from feature_repo.arrays import Bools, Int64s
from streaming.simulator.shop import Shop
from streaming.simulator.traffic import Pages, Shown, Visits, pages, shown, visits

TYPES = ("impression", "search", "click", "view", "like", "add_to_cart", "purchase")
IMPRESSION, SEARCH, CLICK, VIEW, LIKE, CART, PURCHASE = range(len(TYPES))

VIEW_SHARE, LIKE_SHARE, CART_SHARE, PURCHASE_SHARE = 0.6, 0.04, 0.14, 0.4
"""Shares of clicks that lead to each type; for purchases, shares of carts."""


@dataclass(frozen=True)
class Events:
    """Columns of events, each of shape (N,); −1 means absent.

    Attributes:
        time_ms: milliseconds after the start of the simulated period.
        session, page: numbers within `day`; an impression's list is row `page` of the day's `Shown`.
        identified: whether the event carries its user id.
        number: number of the event within `day`.
    """

    type: Int64s
    time_ms: Int64s
    day: Int64s
    user: Int64s
    identified: Bools
    session: Int64s
    item: Int64s
    page: Int64s
    position: Int64s
    query: Int64s
    number: Int64s

    def take(self, rows: Int64s | Bools) -> Events:
        """Select rows."""
        return Events(*(getattr(self, f.name)[rows] for f in fields(self)))

    @staticmethod
    def concat(parts: list[Events]) -> Events:
        """Concatenate the rows of all parts, in order."""
        return Events(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Events)))


@dataclass(frozen=True)
class Day:
    """One simulated day: the sessions, their intents and pages, and the resulting events."""

    number: int
    visits: Visits
    pages: Pages
    shown: Shown
    events: Events


def make_day(shop: Shop, number: int) -> Day:
    """Draw a day from the shop and the day's number only. Its events are in order of time."""
    rng = np.random.default_rng([shop.config.seed, number + 1])
    seen = visits(shop, number, rng)
    on = pages(shop, number, seen, rng)
    day = Day(number, seen, on, shown(shop, number, seen, on, rng), _NONE)
    events = Events.concat([_part(day, *part) for part in _parts(shop, day, rng)])
    events = events.take(np.argsort(events.time_ms, kind="stable"))
    events.number[:] = np.arange(len(events.number))
    return replace(day, events=events)


_NONE = Events(*(np.zeros(0, bool if f.name == "identified" else np.int64) for f in fields(Events)))
_Part = tuple[int, Int64s, Int64s, Int64s | None]
"""Events of one type: the type, their pages, times (ms after midnight), and slots if they concern one."""


def _parts(shop: Shop, day: Day, rng: np.random.Generator) -> list[_Part]:
    """Build the impressions and searches of the pages, and the events that follow clicks."""
    clicked = day.shown.clicked
    starts = _page_starts(day, rng)
    page, slot = np.nonzero(clicked)
    nth = (np.cumsum(clicked, axis=1) - 1)[page, slot]
    at = starts[page] + 2000 + 18_000 * nth + rng.integers(0, 6000, len(page))
    drift = shop.config.drift
    halved = drift is not None and drift.kind == "conversion" and day.number >= drift.from_day
    luck = rng.random((3, len(page)))
    carts = CART_SHARE * (0.5 if halved else 1.0)
    searches = np.flatnonzero(day.pages.search)
    parts: list[_Part] = [
        (IMPRESSION, np.arange(len(starts)), starts, None),
        (SEARCH, searches, starts[searches] - rng.integers(300, 1500, len(searches)), None),
        (CLICK, page, at, slot),
    ]
    for kind, happens, after in (
        (VIEW, luck[0] < VIEW_SHARE, 1200),
        (LIKE, luck[1] < LIKE_SHARE, 6500),
        (CART, luck[2] < carts, 9000),
        (PURCHASE, luck[2] < carts * PURCHASE_SHARE, 16_000),
    ):
        parts.append((kind, page[happens], at[happens] + after, slot[happens]))
    return parts


def _part(day: Day, kind: int, page: Int64s, time_ms: Int64s, slot: Int64s | None) -> Events:
    n = len(page)
    absent = np.full(n, -1)
    seen, on = day.visits, day.pages
    session = on.session[page]
    hidden = seen.anonymous[session] | (seen.logs_in[session] & (on.number[page] == 0))
    return Events(
        type=np.full(n, kind),
        time_ms=time_ms + day.number * 86_400_000,
        day=np.full(n, day.number),
        user=seen.user[session],
        identified=~hidden,
        session=session,
        item=absent if slot is None else day.shown.item[page, slot],
        page=absent if kind == SEARCH else page,
        position=absent if slot is None else slot,
        query=on.intent[page] if kind == SEARCH else absent,
        number=absent.copy(),
    )


def _page_starts(day: Day, rng: np.random.Generator) -> Int64s:
    """Return when each page is shown (ms after midnight): after the clicks and reading on the one before."""
    on = day.pages
    reading = rng.exponential(15_000, len(on.session)).astype(np.int64)
    lasts = 6000 + 20_000 * day.shown.clicked.sum(axis=1) + reading
    before = np.cumsum(lasts) - lasts
    first = np.flatnonzero(on.number == 0)
    since_first = before - before[first][on.session] if len(first) else before
    return np.asarray((day.visits.start_s[on.session] * 1000).astype(np.int64) + since_first + 1500)
