"""One day of visits: sessions, their pages, the items shown and clicked.

Everything is drawn for all sessions of a day at once, as arrays. Shapes: S sessions, P pages, K slots.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from feature_repo.arrays import Bools, Floats, Int64s
from streaming.simulator.shop import CATEGORIES, Shop

SLOTS = 20
MAX_PAGES = 12
CHUNK = 50_000
MEAN_PAGES = 2.6

# Course of a visit.
INTENT_OFF_TASTE = 0.25
"""Share of intents unrelated to the user's long-term taste."""
INTENT_DRIFT = 0.2
"""Probability that the intent changes from one page to the next."""
SEARCH_SHARE = 0.35
NOON_SHARE = 0.4
"""Share of visits around noon; the others are in the evening."""
ANONYMOUS = 0.12
LOGS_IN = 0.05

# Clicks on a slot: logit = BASE + Σ weight × cause; then × (1 + position)^−POSITION_BIAS.
BASE, INTENT, TASTE, BRAND, PRICE, APPEAL = -3.4, 2.2, 0.9, 1.1, 0.7, 0.9
POSITION_BIAS = 0.35


@dataclass(frozen=True)
class Visits:
    """Sessions of a day: user row, start (s after midnight), number of pages, anonymity."""

    user: Int64s
    start_s: Floats
    pages: Int64s
    anonymous: Bools
    logs_in: Bools


@dataclass(frozen=True)
class Pages:
    """Pages of a day in session order: session row, number within the session, intent, search or feed."""

    session: Int64s
    number: Int64s
    intent: Int64s
    search: Bools


@dataclass(frozen=True)
class Shown:
    """Items on each page: item rows (−1: empty slot), scores, click probabilities; shape (P, K)."""

    item: Int64s
    score: Floats
    chance: Floats
    clicked: Bools


def visits(shop: Shop, day: int, rng: np.random.Generator) -> Visits:
    """Draw who visits, when, and how many pages they see."""
    drift = shop.config.drift
    quiet = drift is not None and drift.kind == "activity" and day >= drift.from_day
    rate = np.where(shop.users.first_day <= day, shop.users.activity, 0.0) * (0.5 if quiet else 1.0)
    count = rng.poisson(rate)
    # A cold user's first visit is certain; otherwise many would never come.
    count = np.where((shop.users.first_day == day) & (day > 0), np.maximum(count, 1), count)
    user = np.repeat(np.arange(len(rate)), count)
    n = len(user)
    peak = np.where(rng.random(n) < NOON_SHARE, 12.5, 20.0)
    hour = np.mod(peak + rng.normal(0, 2.8, n), 24)
    kind = rng.random(n)
    return Visits(
        user=user,
        start_s=hour * 3600,
        pages=np.minimum(rng.geometric(1 / MEAN_PAGES, n), MAX_PAGES),
        anonymous=kind < ANONYMOUS,
        logs_in=(kind >= ANONYMOUS) & (kind < ANONYMOUS + LOGS_IN),
    )


def taste_on(shop: Shop, day: int) -> Floats:
    """Return the day's tastes, (users, categories): the users' own, rotated by a planted drift."""
    drift = shop.config.drift
    if drift is not None and drift.kind == "taste" and day >= drift.from_day:
        return np.roll(shop.users.taste, len(CATEGORIES) // 2, axis=1)
    return shop.users.taste


def pages(shop: Shop, day: int, seen: Visits, rng: np.random.Generator) -> Pages:
    """Draw the intent of each page: it starts from the taste and changes within the session."""
    session = np.repeat(np.arange(len(seen.user)), seen.pages)
    first = np.concatenate([[0], np.cumsum(seen.pages)[:-1]]) if len(seen.pages) else np.zeros(0, np.int64)
    number = np.arange(len(session)) - first[session]
    cumulated = np.cumsum(taste_on(shop, day), axis=1)[seen.user[session]]
    drawn = np.minimum((rng.random((len(session), 1)) > cumulated).sum(axis=1), len(CATEGORIES) - 1)
    off = rng.random(len(session)) < INTENT_OFF_TASTE
    drawn = np.where(off, rng.integers(0, len(CATEGORIES), len(session)), drawn)
    # A page keeps the intent of the last page that drew a new one.
    anew = (number == 0) | (rng.random(len(session)) < INTENT_DRIFT)
    source = np.maximum.accumulate(np.where(anew, np.arange(len(session)), 0))
    return Pages(session, number, drawn[source], rng.random(len(session)) < SEARCH_SHARE)


def shown(shop: Shop, day: int, seen: Visits, on: Pages, rng: np.random.Generator) -> Shown:
    """Draw the items of each page, a bounded number of pages at a time to limit memory."""
    parts = [
        _shown(shop, day, seen, Pages(*(getattr(on, f.name)[at : at + CHUNK] for f in fields(Pages))), rng)
        for at in range(0, max(len(on.session), 1), CHUNK)
    ]
    return Shown(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Shown)))


def _shown(shop: Shop, day: int, seen: Visits, on: Pages, rng: np.random.Generator) -> Shown:
    """Retrieve, score and show items on each page, and draw the clicks."""
    item = _retrieve(shop, day, on, rng)
    items, users = shop.items, shop.users
    empty = item < 0
    log_weight = items.log_popularity + items.trend[day]
    fits = items.category[item] == on.intent[:, None]
    # The engine to improve on: popularity, a match with the query, and noise.
    engine = 0.5 * log_weight[item] + 1.2 * (fits & on.search[:, None]) + rng.normal(0, 0.8, item.shape)
    engine[empty] = -np.inf
    order = np.argsort(-engine, axis=1, kind="stable")
    item, engine, fits = (np.take_along_axis(a, order, axis=1) for a in (item, engine, fits))
    empty = item < 0
    user = seen.user[on.session][:, None]
    liked = np.log(taste_on(shop, day) * len(CATEGORIES) + 0.1)[user, items.category[item]]
    logit = (
        BASE
        + INTENT * fits
        + TASTE * np.clip(liked, -1.5, 1.5)
        + BRAND * users.brands[user, items.brand[item]]
        - PRICE * np.abs(items.price_level[item] - users.price_level[user])
        + APPEAL * items.appeal[item]
    )
    chance = (1 + np.arange(item.shape[1])) ** -POSITION_BIAS / (1 + np.exp(-logit))
    chance[empty] = 0.0
    score = np.round(1 / (1 + np.exp(-engine - 2)), 4)
    return Shown(item, score, chance, rng.random(item.shape) < chance)


def _retrieve(shop: Shop, day: int, on: Pages, rng: np.random.Generator) -> Int64s:
    """Draw distinct candidates for each page, (P, K), from all items or those in the query; −1 if too few."""
    items = shop.items
    weight = np.exp(items.log_popularity + items.trend[day]) * (items.first_day <= day)
    by_category = np.argsort(items.category, kind="stable")
    ends = np.cumsum(weight[by_category])
    last = np.searchsorted(items.category[by_category], np.arange(len(CATEGORIES)), side="right") - 1
    upper = np.where(last >= 0, ends[last], 0.0)
    lower = np.concatenate([[0.0], upper[:-1]])
    width = SLOTS * 5 // 2
    draw = rng.random((len(on.session), width))
    narrow = rng.random(draw.shape) < np.where(on.search, 0.7, 0.1)[:, None]
    low, high = lower[on.intent][:, None], upper[on.intent][:, None]
    target = np.where(narrow & (high > low), low + draw * (high - low), draw * ends[-1])
    item = by_category[np.minimum(np.searchsorted(ends, target, side="right"), len(ends) - 1)]
    return _first_distinct(item, min(SLOTS, len(ends)))


def _first_distinct(drawn: Int64s, wanted: int) -> Int64s:
    """Return the first `wanted` distinct values of each row, in order; −1 if there are fewer."""
    order = np.argsort(drawn, axis=1, kind="stable")
    ranked = np.take_along_axis(drawn, order, axis=1)
    again = np.zeros(drawn.shape, dtype=bool)
    np.put_along_axis(again, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
    keep = np.argsort(again, axis=1, kind="stable")[:, :wanted]
    return np.where(np.take_along_axis(again, keep, axis=1), -1, np.take_along_axis(drawn, keep, axis=1))
