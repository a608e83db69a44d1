"""A made-up history in which every user has one taste, to test replay, fit and evaluation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from feature_repo.catalogue import catalogue_of
from feature_repo.contract.validation import Event, Item, ShownItem
from feature_repo.settings import BUILTIN_EVENT_WEIGHTS
from orchestration.evaluation.history import History

START = datetime(2024, 5, 1, tzinfo=UTC)
GENRES = ("drama", "comedy", "horror", "western")


def event(number: int, seconds: float, kind: str = "click", **fields: object) -> Event:
    """Create an event `seconds` after the start."""
    values = {"session_id": "s", **fields}
    return Event(
        event_id=f"e{number:06d}", event_type=kind, event_time=START + timedelta(seconds=seconds), **values
    )


def shown(item_ids: Sequence[str], scores: Sequence[float] | None = None) -> tuple[ShownItem, ...]:
    """Create the slots of an impression."""
    return tuple(
        ShownItem(i, None if scores is None else s) for i, s in zip(item_ids, scores or item_ids, strict=True)
    )  # type: ignore[arg-type]


def history(events: Sequence[Event], items: Sequence[Item] = ()) -> History:
    """Create a history of events and items."""
    ordered = tuple(sorted(events, key=lambda e: e.event_time))
    return History(ordered, catalogue_of(items), {}, dict(BUILTIN_EVENT_WEIGHTS))


def shop_items(count: int) -> list[Item]:
    """Create items of alternating genres, with a price and a colour."""
    return [
        Item(
            item_id=f"i{n}",
            categories=(GENRES[n % len(GENRES)],),
            price=float(5 + n),
            attributes={"colour": ("red", "blue", "green")[n % 3]},
        )
        for n in range(count)
    ]


def tasteful(
    lists: int,
    *,
    users: int = 20,
    items: int = 40,
    slots: int = 8,
    loyalty: float = 0.9,
    seed: int = 5,
    session_lists: int = 1,
) -> History:
    """Create lists of random items; the user clicks one of the favourite genre with probability `loyalty`.

    Within each run of `session_lists` lists of all users, a user's lists belong to one session.
    """
    draw = random.Random(seed)
    catalogue = shop_items(items)
    events: list[Event] = []
    for n in range(lists):
        user = draw.randrange(users)
        at = n * 100.0
        offered = draw.sample(range(items), slots)
        loved = [i for i in offered if i % len(GENRES) == user % len(GENRES)]
        chosen = draw.choice(loved if loved and draw.random() < loyalty else offered)
        who = {"user_id": f"u{user}", "session_id": f"s{user}-{n // session_lists}"}
        events.append(
            event(2 * n, at, "impression", items=shown([f"i{i}" for i in offered]), request_id=f"r{n}", **who)
        )
        events.append(event(2 * n + 1, at + 10, item_id=f"i{chosen}", request_id=f"r{n}", **who))
    return history(events, catalogue)
