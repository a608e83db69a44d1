"""A user's activity in the last day, on every device.

Each of the user's sessions contributes its profile; `row` joins them. A session that logs in contributes
entirely, including the part before the login.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from feature_repo.catalogue import CATEGORY
from feature_repo.group import NON_NEGATIVE, NOT_NULL, USER, DType, Expectation, Feature, FeatureGroup, Fold
from feature_repo.groups.session_profile import COUNTED, Profile, SessionRules, strongest

WINDOW = timedelta(days=1)
LAST_ITEMS = 50
LAST_QUERIES = 10
ATTRIBUTES = 64


def row(profiles: Iterable[Profile], rules: SessionRules) -> tuple[Any, ...]:
    """Compute a user's features from the profiles of the last day's sessions, in declared order.

    Affinities are decayed to the newest event, with the half-life of sessions.
    """
    runs = sorted(profiles, key=lambda p: (p.last_us, p.started_us))
    last_us = runs[-1].last_us
    touched: dict[str, tuple[int, float]] = {}
    attrs: dict[str, float] = {}
    queries: dict[str, None] = {}
    counts = [0] * len(COUNTED)
    for run in runs:
        for item_id, (at_us, weight) in run.items.items():
            held = touched.get(item_id, (0, 0.0))
            touched[item_id] = (max(held[0], at_us), held[1] + weight)
        decay = 2.0 ** ((run.landmark_us - last_us) / rules.half_life_us)
        for key, weight in run.attrs.items():
            attrs[key] = attrs.get(key, 0.0) + weight * decay
        counts = [a + b for a, b in zip(counts, run.counts, strict=True)]
        for query in reversed(run.queries):
            queries.pop(query, None)
            queries[query] = None
    items = sorted(touched.items(), key=lambda entry: (-entry[1][0], entry[0]))[:LAST_ITEMS]
    kept = strongest(attrs)[:ATTRIBUTES]
    prefix = f"{CATEGORY}:"
    categories = [(key.removeprefix(prefix), w) for key, w in kept if key.startswith(prefix)]
    total = sum(w for _, w in categories) or 1.0
    return (
        len(runs),
        [item_id for item_id, _ in items],
        [at_us // 1000 for _, (at_us, _) in items],
        [weight for _, (_, weight) in items],
        [key for key, _ in kept],
        [weight for _, weight in kept],
        [category for category, _ in categories],
        [weight / total for _, weight in categories],
        sum(run.event_count for run in runs),
        *counts,
        list(queries)[::-1][:LAST_QUERIES],
        last_us,
    )


def merge(profiles: Iterable[Profile], rules: SessionRules) -> dict[str, Any]:
    """Compute a user's features by name."""
    return GROUP.named(row(profiles, rules))


GROUP = FeatureGroup(
    name="user_recent",
    entity=USER,
    meaning="A user's sessions whose last event is within a day of the newest, on every device.",
    features=(
        Feature("session_count", DType.INT64, "Sessions.", "sessions", (NON_NEGATIVE,)),
        Feature("item_ids", DType.STRINGS, f"Last {LAST_ITEMS} distinct items touched, newest first."),
        Feature("item_times_ms", DType.INT64S, "When each was last touched.", "epoch ms"),
        Feature("item_weights", DType.FLOAT64S, "Engagement with each so far.", "weight"),
        Feature("attr_keys", DType.STRINGS, "Attribute values of touched items, strongest first."),
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
        Feature("last_event_time", DType.TIMESTAMP, "Last event.", expectations=(NOT_NULL,)),
    ),
    freshness=timedelta(minutes=1),
    ttl=WINDOW,
    fold=Fold(row),
    ranked_as="recent",
    where_asked=True,
    expectations=(
        Expectation("same_length", columns=("item_ids", "item_times_ms", "item_weights")),
        Expectation("same_length", columns=("attr_keys", "attr_weights")),
        Expectation("same_length", columns=("categories", "category_shares")),
    ),
)
