"""Random histories on small alphabets, so that everything collides: times, items, sessions, consent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from feature_repo.contract.validation import Event, Item, ShownItem, User

AS_OF = datetime(2024, 6, 1, 12, tzinfo=UTC)
ITEMS = ("i1", "i2", "i3", "i4", "i5", "ünknown")
KINDS = ("view", "click", "like", "add_to_cart", "purchase")
AGES = (
    timedelta(microseconds=1),
    timedelta(seconds=3, microseconds=250_001),
    timedelta(minutes=29),
    timedelta(minutes=30, seconds=3, microseconds=250_001),
    timedelta(hours=1),
    timedelta(days=1),
    timedelta(days=7, microseconds=1),
    timedelta(days=30),
    timedelta(days=89),
    timedelta(days=91),
    timedelta(0),
)


@dataclass(frozen=True)
class World:
    events: list[Event]
    items: list[Item]
    users: list[User]


_time = st.sampled_from(AGES).map(lambda age: AS_OF - age)
_words = st.lists(
    st.sampled_from(["Shoes", "hats", "a:b", "Ärmel", "A\u0308RMEL", "ΧΕΙΡΟΣ", "İl"]), max_size=3
)


@st.composite
def _event(draw: st.DrawFn, number: int) -> Event:
    kind = draw(st.sampled_from(["impression", *KINDS, "click", "impression", "search"]))
    shown = draw(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=5)) if kind == "impression" else []
    return Event(
        event_id=f"e{number}",
        event_type=kind,
        event_time=draw(_time),
        session_id=draw(st.sampled_from(["s1", "s2", "s3"])),
        user_id=draw(st.sampled_from([None, "u1", "u2", "u3", "denies"])),
        item_id=draw(st.sampled_from(ITEMS)) if kind in KINDS else None,
        items=tuple(ShownItem(item_id) for item_id in shown),
        request_id=draw(st.sampled_from([None, "r1", "r2"])),
        position=draw(st.sampled_from([None, None, 0, 2, 150])) if kind in KINDS else None,
        consent=draw(st.sampled_from([None, None, None, True, False])),
    )


@st.composite
def _item(draw: st.DrawFn, item_id: str) -> Item:
    attributes = {
        name: draw(values)
        for name, values in (
            ("Genres", _words),
            ("brand", st.sampled_from(["Acme", "acme", ""])),
            ("ΜΆΡΚΑ", st.sampled_from(["ΕΛΛΆΣ", "ελλάς"])),
            ("Votes", st.sampled_from([1.0, 2.5, -3.0])),
            ("price", st.just(99.0)),
        )
        if draw(st.booleans())
    }
    return Item(
        item_id=item_id,
        title=draw(st.sampled_from(["", "Thing"])),
        categories=tuple(draw(_words)),
        price=draw(st.sampled_from([None, 0.0, 5.0, 19.99])),
        created_at=draw(
            st.sampled_from([None, datetime(2020, 2, 29, tzinfo=UTC), AS_OF + timedelta(days=2)])
        ),
        attributes=attributes,
    )


@st.composite
def _user(draw: st.DrawFn, user_id: str) -> User:
    segment = draw(
        st.sampled_from([None, "gold", "", ["silver", "x"], [], 3.0, 2.5, 1e19, "all", "Cafe\u0301"])
    )
    return User(
        user_id=user_id,
        attributes={} if segment is None else {"segment": segment, "other": "x"},
        consent=False if user_id == "denies" else draw(st.sampled_from([None, None, True, False])),
    )


@st.composite
def worlds(draw: st.DrawFn, max_events: int = 25) -> World:
    """Draw events in time order, some items, some users."""
    count = draw(st.integers(0, max_events))
    events = [draw(_event(number)) for number in range(count)]
    described = draw(st.sets(st.sampled_from(ITEMS[:-1])))
    declared = draw(st.sets(st.sampled_from(["u1", "u2", "quiet", "denies"])))
    return World(
        events=sorted(events, key=lambda e: e.event_time),
        items=[draw(_item(item_id)) for item_id in sorted(described)],
        users=[draw(_user(user_id)) for user_id in sorted(declared)],
    )
