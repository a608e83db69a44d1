"""Items with latent appeal and users with latent tastes, the causes of the simulated events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from feature_repo.arrays import Bools, Floats, Int64s
from feature_repo.contract.validation import Item, User
from streaming.simulator.config import ShopConfig

CATEGORIES = (
    "shoes", "jackets", "dresses", "shirts", "jeans", "bags", "watches", "jewellery", "toys", "books",
    "games", "headphones", "phones", "laptops", "cameras", "kitchen", "furniture", "garden", "sports",
    "beauty",
)  # fmt: skip
SEGMENTS = ("fashion", "tech", "home", "family", "active", "classic")
COLOURS = ("black", "white", "red", "blue", "green", "brown", "grey", "gold")
BRANDS = 40
TAGS_PER_CATEGORY = 6
COUNTRIES = ("de", "fr", "it", "es", "nl", "pl")

TWO_CATEGORIES, NEW = 0.15, 0.1
"""Shares of items that are in two categories, and that go on sale within the simulated days."""
COLD, DECLARED, DENIES = 0.25, 0.7, 0.03
"""Shares of users who first visit within the simulated days, declare their segment, deny consent."""


@dataclass(frozen=True)
class Items:
    """Columns of the catalogue; row *n* is item ``i<n>``. `appeal`, `log_popularity`, `trend` are latent.

    Attributes:
        appeal: attractiveness beyond taste, standard normal.
        log_popularity: log of the Zipf weight of retrieval.
        trend: daily change of `log_popularity`, shape (days, items).
        price_level: standardized log price within its category.
        first_day: first simulated day on sale (0 for most).
    """

    ids: list[str]
    category: Int64s
    second_category: Int64s
    brand: Int64s
    colour: Int64s
    tag: Int64s
    price: Floats
    price_level: Floats
    first_day: Int64s
    age_days: Floats
    appeal: Floats
    log_popularity: Floats
    trend: Floats


@dataclass(frozen=True)
class Users:
    """Columns of the users; row *n* is user ``u<n>``. All but `declared` and `consent` are latent.

    Attributes:
        taste: share of each category in the user's long-term interest; rows sum to 1.
        brands: whether the user likes each brand, shape (users, brands), 0 or 1.
        activity: sessions per day.
        first_day: day of the first visit; users with a late one are cold.
    """

    ids: list[str]
    segment: Int64s
    declared: Bools
    consent: Bools
    country: Int64s
    taste: Floats
    brands: Floats
    price_level: Floats
    activity: Floats
    first_day: Int64s


@dataclass(frozen=True)
class Shop:
    """A shop and all its latent causes, at which the events only hint."""

    config: ShopConfig
    items: Items
    users: Users
    segment_taste: Floats

    def item_records(self) -> list[Item]:
        """Return the catalogue as contract items."""
        i = self.items
        start = self.config.start
        return [
            Item(
                item_id=i.ids[n],
                title=f"{COLOURS[i.colour[n]]} {CATEGORIES[i.category[n]]} by brand{i.brand[n]}",
                categories=tuple(
                    dict.fromkeys((CATEGORIES[i.category[n]], CATEGORIES[i.second_category[n]]))
                ),
                price=float(i.price[n]),
                created_at=start + timedelta(days=float(i.first_day[n] - i.age_days[n])),
                attributes={
                    "brand": f"brand{i.brand[n]}",
                    "colour": COLOURS[i.colour[n]],
                    "tags": [f"{CATEGORIES[i.category[n]]}-{i.tag[n]}"],
                },
            )
            for n in range(len(i.ids))
        ]

    def user_records(self) -> list[User]:
        """Return the users as they declare themselves."""
        u = self.users
        return [
            User(
                user_id=u.ids[n],
                attributes={
                    "country": COUNTRIES[u.country[n]],
                    **({"segment": SEGMENTS[u.segment[n]]} if u.declared[n] else {}),
                },
                consent=None if u.consent[n] else False,
            )
            for n in range(len(u.ids))
        ]


def make_shop(config: ShopConfig) -> Shop:
    """Draw a shop; the same config gives the same shop."""
    rng = np.random.default_rng([config.seed, 0])
    items = _items(config, rng)
    segment_taste = rng.dirichlet(np.full(len(CATEGORIES), 0.25), len(SEGMENTS))
    return Shop(config, items, _users(config, rng, segment_taste), segment_taste)


def _items(config: ShopConfig, rng: np.random.Generator) -> Items:
    count = config.items
    category = rng.integers(0, len(CATEGORIES), count)
    # Brands specialize: a few of them make each category.
    brand = (category * 7 + rng.geometric(0.3, count)) % BRANDS
    log_popularity = -0.9 * np.log(rng.permutation(count) + 3.0)
    price_level = rng.normal(0, 1, count)
    base_price = rng.lognormal(3.5, 0.8, len(CATEGORIES))
    new = rng.random(count) < NEW
    steps = rng.normal(0, 0.25, (config.days, count))
    trend = np.zeros_like(steps)
    for day in range(1, config.days):
        trend[day] = 0.9 * trend[day - 1] + steps[day]
    standing = (log_popularity - log_popularity.mean()) / (log_popularity.std() or 1.0)
    return Items(
        ids=[f"i{n}" for n in range(count)],
        category=category,
        second_category=np.where(
            rng.random(count) < TWO_CATEGORIES, rng.integers(0, len(CATEGORIES), count), category
        ),
        brand=brand,
        colour=rng.integers(0, len(COLOURS), count),
        tag=rng.integers(0, TAGS_PER_CATEGORY, count),
        price=np.round(base_price[category] * np.exp(0.5 * price_level), 2),
        price_level=price_level,
        first_day=np.where(new, rng.integers(0, config.days, count), 0),
        age_days=np.where(new, 0.0, np.round(rng.exponential(180, count), 3)),
        appeal=0.9 * rng.normal(0, 1, count) + 0.4 * standing,
        log_popularity=log_popularity,
        trend=trend,
    )


def _users(config: ShopConfig, rng: np.random.Generator, segment_taste: Floats) -> Users:
    count = config.users
    segment = rng.integers(0, len(SEGMENTS), count)
    # A user's taste is a peaked draw around the segment's: a few categories dominate.
    gamma = rng.gamma(4.0 * segment_taste[segment] + 0.03)
    brands = (rng.random((count, BRANDS)) < 4 / BRANDS).astype(np.float64)
    cold = rng.random(count) < COLD
    return Users(
        ids=[f"u{n}" for n in range(count)],
        segment=segment,
        declared=rng.random(count) < DECLARED,
        consent=rng.random(count) >= DENIES,
        country=rng.integers(0, len(COUNTRIES), count),
        taste=gamma / gamma.sum(axis=1, keepdims=True),
        brands=brands,
        price_level=rng.normal(0, 1, count),
        activity=config.sessions_per_user_day * rng.lognormal(-0.32, 0.8, count),
        first_day=np.where(cold, rng.integers(0, config.days, count), 0),
    )
