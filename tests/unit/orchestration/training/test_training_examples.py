"""Examples and labels against a naive oracle; splits; the spec's refusals."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from feature_repo.contract.validation import Event, ShownItem, to_arrow
from feature_repo.errors import BuildError
from orchestration.training.examples import EXAMPLE_COLUMNS, examples_sql, shown_sql
from orchestration.training.spec import LABELS, TrainingSpec
from orchestration.training.split import Split

T0 = datetime(2024, 5, 30, tzinfo=UTC)
WINDOW = timedelta(minutes=30)
SKEW = timedelta(seconds=5)
OFF = (0, 0, 55, 59.999_999, 60.5)
"""Seconds after the minute; from 55 on within the tolerance of the next."""


def made(events: list[Event]) -> list[dict[str, object]]:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("given", to_arrow("event", events, T0))
        con.execute("CREATE TABLE events AS SELECT * FROM given")
        con.execute(f"CREATE TABLE shown AS {shown_sql('events')}")
        rows = con.sql(examples_sql("shown", "events", WINDOW)).to_arrow_table().to_pylist()
    return sorted(rows, key=lambda r: (r["decision_time"], r["request_id"], r["position"]))


def oracle(events: list[Event]) -> dict[tuple[str, str], tuple[set[str], datetime | None]]:
    """Labels of each (request, item) by the definition, one event at a time."""
    shown = [
        (e.request_id or e.event_id, e, slot.item_id)
        for e in events
        if e.event_type == "impression"
        for slot in e.items
    ]
    found: dict[tuple[str, str], tuple[set[str], datetime | None]] = {
        (request, item): (set(), None) for request, _, item in shown
    }
    for event in events:
        if event.event_type not in LABELS.values() or event.item_id is None:
            continue
        fits = [
            (request, e)
            for request, e, item in shown
            if item == event.item_id and e.event_time <= event.event_time + SKEW
        ]
        if event.request_id is not None:
            fits = [(request, e) for request, e in fits if request == event.request_id]
        else:
            fits = [
                (request, e)
                for request, e in fits
                if e.session_id == event.session_id and e.event_time <= event.event_time
            ]
            fits = sorted(fits, key=lambda fit: fit[1].event_time)[-1:]
        for request, e in fits:
            if event.event_time < e.event_time + WINDOW:
                kinds, first = found[request, event.item_id]
                kinds.add(event.event_type)
                times = [t for t in (first, max(event.event_time, e.event_time)) if t is not None]
                found[request, event.item_id] = (kinds, min(times))
    return found


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Impressions at distinct minutes, clicks and purchases of two sessions, some naming their request."""
    found = []
    minutes = draw(st.lists(st.integers(0, 200), min_size=1, max_size=12, unique=True))
    for n, minute in enumerate(minutes):
        kind = draw(st.sampled_from(["impression", "click", "purchase", "add_to_cart", "view"]))
        named = draw(st.booleans())
        request = f"r{draw(st.integers(0, 3))}" if named and kind != "impression" else None
        items = [f"i{k}" for k in draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))]
        found.append(
            Event(
                event_id=f"e{n}",
                event_type=kind,
                event_time=T0 + timedelta(minutes=minute, seconds=draw(st.sampled_from(OFF))),
                session_id=f"s{draw(st.integers(0, 1))}",
                item_id=None if kind == "impression" else items[0],
                items=tuple(ShownItem(i) for i in items) if kind == "impression" else (),
                request_id=f"r{n}" if kind == "impression" and named else request,
            )
        )
    return found


@given(histories())
@settings(max_examples=150, deadline=None)
def test_labels_follow_the_definition(events: list[Event]) -> None:
    rows = made(events)
    expected = oracle(events)
    assert {(r["request_id"], r["item_id"]) for r in rows} == expected.keys()
    for row in rows:
        kinds, first = expected[str(row["request_id"]), str(row["item_id"])]
        assert {kind for label, kind in LABELS.items() if row[label]} == kinds
        assert row["label_time"] == first
        assert list(row) == list(EXAMPLE_COLUMNS)


def impression(number: int, minute: int, *items: str, **more: object) -> Event:
    return Event(
        event_id=f"e{number}",
        event_type="impression",
        event_time=T0 + timedelta(minutes=minute),
        session_id="s",
        items=tuple(ShownItem(i, score=float(k)) for k, i in enumerate(items)),
        **more,  # type: ignore[arg-type]
    )


def test_positions_and_scores_are_those_shown_and_a_repeat_counts_once() -> None:
    rows = made([impression(1, 0, "a", "b", "a", request_id="r", user_id="u")])
    assert [(r["item_id"], r["position"], r["score"]) for r in rows] == [("a", 0, 0.0), ("b", 1, 1.0)]
    assert {(r["request_id"], r["user_id"], r["session_id"]) for r in rows} == {("r", "u", "s")}


def test_the_window_ends_before_its_end() -> None:
    click = Event(event_id="c", event_type="click", event_time=T0 + WINDOW, session_id="s", item_id="a")
    assert [r["label_click"] for r in made([impression(1, 0, "a"), click])] == [False]
    sooner = Event(
        event_id="c",
        event_type="click",
        event_time=T0 + WINDOW - timedelta(microseconds=1),
        session_id="s",
        item_id="a",
    )
    assert [r["label_click"] for r in made([impression(1, 0, "a"), sooner])] == [True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embargo": timedelta(minutes=1)}, "embargo of 0:01:00 is shorter than the attribution window"),
        ({"last": date(2024, 5, 1)}, "last day 2024-05-01 is before the first, 2024-05-30; swap them"),
        ({"shares": (0.9, 0.2, 0.1)}, r"shares \(0.9, 0.2, 0.1\) must be at least 0 and sum to 1"),
        ({"shares": (1.1, -0.2, 0.1)}, "must be at least 0"),
    ],
)
def test_a_spec_that_cannot_be_right_is_refused(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"first": T0.date(), "last": T0.date(), **change}
    with pytest.raises(BuildError, match=message):
        TrainingSpec(**given)  # type: ignore[arg-type]


def test_splits_lie_in_time_with_an_embargo_before_each() -> None:
    times = [T0 + timedelta(minutes=n) for n in range(100)]
    split = Split.of(times, (0.8, 0.1, 0.1), timedelta(minutes=5))
    names = [split.name(time) for time in times]
    assert names[:75] == ["train"] * 75
    assert names[75:80] == [None] * 5
    assert names[80:85] == ["validation"] * 5
    assert names[85:90] == [None] * 5
    assert names[90:] == ["test"] * 10


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=50), st.integers(0, 500))
@settings(max_examples=40, deadline=None)
def test_the_sql_of_a_split_says_what_the_function_says(seconds: list[int], embargo: int) -> None:
    times = sorted(T0 + timedelta(seconds=s) for s in seconds)
    split = Split.of(times, (0.7, 0.15, 0.15), timedelta(seconds=embargo))
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute("CREATE TABLE t (time TIMESTAMPTZ)")
        con.executemany("INSERT INTO t VALUES (?)", [(time,) for time in times])
        found = con.execute(f"SELECT {split.sql('time')} FROM t ORDER BY time").fetchall()
    assert [row[0] for row in found] == [split.name(time) for time in times]


@pytest.mark.parametrize(
    ("seconds", "labelled"), [(-6, False), (-5.000_001, False), (-5, True), (-1, True), (0, True), (1, True)]
)
def test_a_click_stamped_before_the_request_it_names_belongs_to_it(seconds: float, labelled: bool) -> None:
    list_ = Event(
        event_id="shown",
        event_type="impression",
        event_time=T0,
        session_id="s",
        request_id="r",
        items=(ShownItem(item_id="i"),),
    )
    at = T0 + timedelta(seconds=seconds)
    click = Event(
        event_id="c", event_type="click", event_time=at, session_id="s", item_id="i", request_id="r"
    )
    [row] = made([list_, click])
    assert row["label_click"] is labelled
    assert row["label_time"] == (max(at, T0) if labelled else None)
    [unnamed] = made([list_, replace(click, request_id=None)])
    assert unnamed["label_click"] is (seconds >= 0), "nothing says that it came of the list"
