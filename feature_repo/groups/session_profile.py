"""The current session's interests, updated within seconds.

The fold is pure: `step` combines a profile and one event, `values` returns the features. The stream applies
it as events arrive, `headrace backfill sessions` to the lake, the evaluation to history: one function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import compress
from typing import Any

from msgspec import Struct

from feature_repo.catalogue import CATEGORY, ItemFacts
from feature_repo.clock import EPOCH
from feature_repo.contract.records import Event
from feature_repo.group import (
    NON_NEGATIVE,
    NOT_NULL,
    SESSION,
    DType,
    Expectation,
    Feature,
    FeatureGroup,
    Fold,
)
from feature_repo.memory import Memory
from feature_repo.settings import Settings

LAST_ITEMS = 20
LAST_QUERIES = 5
CART_ITEMS = 50
ATTRIBUTES = 64
COUNTED = ("impression", "view", "click", "like", "add_to_cart", "purchase", "search")

_SLACK = 32
_MICROSECOND = timedelta(microseconds=1)
_RENORMALIZE_AT = 512.0
_COUNT_INDEX = {kind: i for i, kind in enumerate(COUNTED)}


class Touch(Struct, array_like=True, frozen=True, gc=False):
    """The part of an event that the fold needs. Touches are ordered by ``(time_us, event_id)``.

    Attributes:
        time_us: event time, microseconds since 1970.
        weight: engagement weight of the event type; 0 is context.
        consent: statement about personalization by the event or its user; `None`: no statement.
    """

    time_us: int
    event_id: str
    kind: str
    weight: float
    item_id: str | None = None
    user_id: str | None = None
    query: str | None = None
    consent: bool | None = None


class Profile(Struct, array_like=True, gc=False):
    """State of a session. Every list in it is capped.

    Attributes:
        denied: personalization is not permitted; then nothing else is kept.
        refused: the denial was stated; otherwise it is the default for users without a statement.
        items: item id to ``(last touched (µs), weight so far)``, oldest touch first.
        attrs: attribute value to weight, scaled by ``2^((t − landmark) / half-life)``, so that an event
        changes
            only its own values and no others need decaying.
        price_sum, price_count: over items at the time they enter `items`.
    """

    started_us: int
    last_us: int
    landmark_us: int
    user_id: str | None = None
    denied: bool = False
    event_count: int = 0
    counts: list[int] = []
    items: dict[str, tuple[int, float]] = {}
    attrs: dict[str, float] = {}
    queries: list[str] = []
    cart: list[str] = []
    price_sum: float = 0.0
    price_count: int = 0
    refused: bool = False


@dataclass(frozen=True, slots=True)
class SessionRules:
    """Parameters of the fold besides its events, in microseconds.

    Attributes:
        consent_default: applies if consent is not stated.
    """

    gap_us: int
    half_life_us: float
    consent_default: bool = True

    @classmethod
    def of(cls, settings: Settings) -> SessionRules:
        """Return the rules from the settings."""
        return cls(
            int(settings.session_gap_s * 1e6), settings.session_half_life_s * 1e6, settings.consent_default
        )


def touch_of(event: Event, weights: Mapping[str, float], consent: bool | None) -> Touch:
    """Create the touch of an event; `consent` is what the event or its user states (`consent.permitted`)."""
    return Touch(
        (event.event_time - EPOCH) // _MICROSECOND,
        event.event_id,
        event.event_type,
        weights.get(event.event_type, 0.0),
        event.item_id,
        event.user_id,
        event.query,
        consent,
    )


def step(profile: Profile | None, touch: Touch, facts: ItemFacts | None, rules: SessionRules) -> Profile:
    """Return the profile after one more event; `profile` is modified and must not be reused.

    A gap, another user on the same device, or a denial of consent ends the session; the next event starts a
    new one under the same id. A denial holds until consent is given, another user comes, or the session ends.

    Args:
        touch: not before the profile's last event.
        facts: facts of the touched item, if the catalogue knows it.
    """
    now = touch.time_us
    if touch.consent is False or (touch.consent is None and not rules.consent_default):
        return _denied(profile, touch, rules)
    if profile is None or _ended(profile, touch, rules):
        profile = _begin(now)
    elif profile.denied:
        if touch.consent is None:
            profile.last_us = now
            return profile
        profile = _begin(now)
    profile.last_us = now
    profile.event_count += 1
    if touch.user_id is not None:
        profile.user_id = touch.user_id
    index = _COUNT_INDEX.get(touch.kind)
    if index is not None:
        profile.counts[index] += 1
    if touch.query:
        _to_front(profile.queries, touch.query, LAST_QUERIES)
    if touch.item_id is not None and touch.weight > 0:
        _engage(profile, touch, touch.item_id, facts, rules)
    return profile


def _ended(profile: Profile, touch: Touch, rules: SessionRules) -> bool:
    return touch.time_us - profile.last_us > rules.gap_us or _another(profile, touch)


def _denied(profile: Profile | None, touch: Touch, rules: SessionRules) -> Profile:
    """Keep only the session's user and whether the denial was stated, for the rest of the session."""
    now, user_id, refused = touch.time_us, touch.user_id, touch.consent is False
    if profile is not None:
        user_id = user_id or profile.user_id
        refused = refused or (profile.refused and not _ended(profile, touch, rules))
    return Profile(now, now, now, user_id, True, counts=[0] * len(COUNTED), refused=refused)


def _begin(now: int) -> Profile:
    return Profile(now, now, now, counts=[0] * len(COUNTED))


def _another(profile: Profile, touch: Touch) -> bool:
    return touch.user_id is not None and profile.user_id is not None and touch.user_id != profile.user_id


def _to_front(entries: list[str], entry: str, cap: int) -> None:
    if entry in entries:
        entries.remove(entry)
    entries.insert(0, entry)
    del entries[cap:]


def _engage(
    profile: Profile, touch: Touch, item_id: str, facts: ItemFacts | None, rules: SessionRules
) -> None:
    items = profile.items
    entry = items.pop(item_id, None)
    if entry is None:
        entry = (0, 0.0)
        if len(items) >= LAST_ITEMS:
            del items[next(iter(items))]
        if facts is not None and facts.price is not None:
            profile.price_sum += facts.price
            profile.price_count += 1
    items[item_id] = (touch.time_us, entry[1] + touch.weight)
    if touch.kind == "add_to_cart":
        _to_front(profile.cart, item_id, CART_ITEMS)
    elif touch.kind == "purchase" and item_id in profile.cart:
        profile.cart.remove(item_id)
    if facts is not None:
        _add_attributes(profile, touch, facts, rules)


def _add_attributes(profile: Profile, touch: Touch, facts: ItemFacts, rules: SessionRules) -> None:
    attrs = profile.attrs
    exponent = (touch.time_us - profile.landmark_us) / rules.half_life_us
    if exponent > _RENORMALIZE_AT:
        factor = 2.0**-exponent
        profile.attrs = attrs = {key: weight * factor for key, weight in attrs.items()}
        profile.landmark_us = touch.time_us
        exponent = 0.0
    added = touch.weight * 2.0**exponent
    for key in facts.attr_keys:
        attrs[key] = attrs.get(key, 0.0) + added
    if len(attrs) > ATTRIBUTES + _SLACK:
        profile.attrs = dict(strongest(attrs)[:ATTRIBUTES])


def strongest(attrs: Mapping[str, float]) -> list[tuple[str, float]]:
    """Sort by weight, heaviest first; ties in order of first occurrence."""
    return sorted(attrs.items(), key=_weight, reverse=True)


def _weight(entry: tuple[str, float]) -> float:
    return entry[1]


def _category(key: str) -> str:
    """Return the category of an attribute key; empty for other attributes."""
    kind, _, name = key.partition(":")
    return name if kind == CATEGORY else ""


_category_of = Memory(_category).__getitem__


def row(profile: Profile, rules: SessionRules) -> tuple[Any, ...]:
    """Return a profile's features as of its last event, in declared order; times in epoch microseconds."""
    items, attrs, last_us = profile.items, profile.attrs, profile.last_us
    item_ids, touches = list(items), list(items.values())
    item_ids.reverse()
    touches.reverse()
    keys = sorted(attrs, key=attrs.__getitem__, reverse=True)[:ATTRIBUTES]
    decay = 2.0 ** ((profile.landmark_us - last_us) / rules.half_life_us)
    weights = [attrs[key] * decay for key in keys]
    categories = list(map(_category_of, keys))
    shares = list(compress(weights, categories))
    total = sum(shares) or 1.0
    return (
        profile.user_id,
        item_ids,
        [at_us // 1000 for at_us, _ in touches],
        [weight for _, weight in touches],
        keys,
        weights,
        list(filter(None, categories)),
        [share / total for share in shares],
        profile.event_count,
        *profile.counts,
        profile.queries,
        profile.cart,
        (last_us - profile.started_us) / 1e6,
        profile.price_sum / profile.price_count if profile.price_count else None,
        profile.started_us,
        last_us,
    )


def values(profile: Profile, rules: SessionRules) -> dict[str, Any]:
    """Return a profile's features by name, as of its last event."""
    return GROUP.named(row(profile, rules))


GROUP = FeatureGroup(
    name="session_profile",
    entity=SESSION,
    meaning="The current session: items touched, queries and the cart.",
    features=(
        Feature("user_id", DType.STRING, "The user, once known."),
        Feature("item_ids", DType.STRINGS, f"Last {LAST_ITEMS} distinct items touched, newest first."),
        Feature("item_times_ms", DType.INT64S, "When each was last touched.", "epoch ms"),
        Feature("item_weights", DType.FLOAT64S, "Engagement with each so far.", "weight"),
        Feature(
            "attr_keys", DType.STRINGS, "Attribute values of touched items, as `type:value`, strongest first."
        ),
        Feature("attr_weights", DType.FLOAT64S, "Decayed engagement with each value.", "weight"),
        Feature("categories", DType.STRINGS, "Categories by decayed affinity, strongest first."),
        Feature(
            "category_shares", DType.FLOAT64S, "Share of the decayed engagement of each category.", "share"
        ),
        Feature("event_count", DType.INT64, "Events.", "events", (NON_NEGATIVE,)),
        *(
            Feature(f"{kind}_count", DType.INT64, f"`{kind}` events.", "events", (NON_NEGATIVE,))
            for kind in COUNTED
        ),
        Feature("queries", DType.STRINGS, f"Last {LAST_QUERIES} queries, newest first."),
        Feature("cart_item_ids", DType.STRINGS, "Items put in the cart and not yet bought, newest first."),
        Feature("dwell_s", DType.FLOAT64, "From the first event to the last.", "s", (NON_NEGATIVE,)),
        Feature("mean_price", DType.FLOAT64, "Mean price of the items touched.", "price"),
        Feature("started_at", DType.TIMESTAMP, "First event.", expectations=(NOT_NULL,)),
        Feature("last_event_time", DType.TIMESTAMP, "Last event.", expectations=(NOT_NULL,)),
    ),
    freshness=timedelta(seconds=30),
    ttl=timedelta(days=1),
    fold=Fold(row),
    ranked_as="session",
    expectations=(
        Expectation("same_length", columns=("item_ids", "item_times_ms", "item_weights")),
        Expectation("same_length", columns=("attr_keys", "attr_weights")),
        Expectation("same_length", columns=("categories", "category_shares")),
    ),
)
