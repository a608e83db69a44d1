"""When events count whose clocks are off: values and SQL agree, and nothing is known before its list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from feature_repo.clock_skew import after_their_requests, counted_sql, no_later_than
from feature_repo.contract.validation import Event, Item, ShownItem, from_arrow, to_arrow
from feature_repo.settings import Settings
from orchestration.training.sessions import session_rows

T0 = datetime(2024, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SKEW = 5 * SECOND


def event(name: str, seconds: float, kind: str = "click", **more: object) -> Event:
    items = (ShownItem(item_id="i1"), ShownItem(item_id="i2")) if kind == "impression" else ()
    fields = {"item_id": None if items else "i1", "items": items, "session_id": "s", **more}
    return Event(event_id=name, event_type=kind, event_time=T0 + seconds * SECOND, **fields)  # type: ignore[arg-type]


def naive(events: list[Event], came: datetime) -> dict[str, datetime]:
    """By the definition, one event at a time."""
    stamped = {e.event_id: came if e.event_time > came + SKEW else e.event_time for e in events}
    found = {}
    for e in events:
        at = stamped[e.event_id]
        shown = [
            stamped[o.event_id]
            for o in events
            if o.event_type == "impression" and o.request_id and o.request_id == e.request_id
        ]
        found[e.event_id] = min(shown) if shown and min(shown) - SKEW <= at < min(shown) else at
    return found


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 4.999_999, 5, 5.000_001, 9, 60, 7200]),
            st.sampled_from(["impression", "click", "purchase"]),
            st.sampled_from([None, "r1", "r2"]),
        ),
        max_size=9,
    ),
    st.sampled_from([0, 9, 4000, 7200]),
)
def test_values_and_sql_agree(drawn: list[tuple[float, str, str | None]], seconds: int) -> None:
    events = [event(f"e{n}", at, kind, request_id=r) for n, (at, kind, r) in enumerate(drawn)]
    came = T0 + seconds * SECOND
    wanted = naive(events, came)
    clamped = [replace(e, event_time=no_later_than(e.event_time, came, SKEW)) for e in events]
    values = after_their_requests(clamped, SKEW)
    assert {e.event_id: e.event_time for e in values} == wanted
    assert [e.event_time for e in values] == sorted(wanted.values())
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("lake", to_arrow("event", events, came))
        rows = con.sql(counted_sql("lake", SKEW)).to_arrow_table().to_pylist()
    by_sql = [from_arrow("event", row) for row in rows]
    assert {e.event_id: e.event_time for e in by_sql if isinstance(e, Event)} == wanted


def test_what_came_of_a_list_is_no_feature_of_it() -> None:
    """The click belongs to the list, so it must not be in the session that the list was ranked with."""
    before, click = event("e0", -60, item_id="i2"), event("e1", -1, request_id="r")
    shown = event("e2", 0, "impression", request_id="r")
    rows = session_rows(
        after_their_requests([before, click, shown], SKEW),
        [Item(item_id="i1"), Item(item_id="i2")],
        [],
        Settings(),
    )
    assert [values["item_ids"] for _, _, values in rows] == [["i2"]]


def test_an_event_of_no_request_keeps_its_time() -> None:
    click, shown = event("e1", -1), event("e2", 0, "impression", request_id="r")
    assert after_their_requests([shown, click], SKEW) == [click, shown]


def test_where_nobody_knows_when_it_came_the_stamp_counts() -> None:
    ahead = event("e", 7200)
    assert no_later_than(ahead.event_time, None, SKEW) == ahead.event_time
    lake = to_arrow("event", [ahead], T0)
    place = lake.schema.get_field_index("ingested_at")
    field = lake.schema.field(place).with_nullable(True)
    lake = lake.set_column(place, field, pa.nulls(1, field.type))
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("lake", lake)
        [(found,)] = con.execute(f"SELECT event_time FROM ({counted_sql('lake', SKEW)})").fetchall()
    assert found == ahead.event_time
