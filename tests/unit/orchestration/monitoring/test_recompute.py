from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.catalogue import catalogue_of
from feature_repo.contract.validation import Event, Item, User, to_arrow
from feature_repo.errors import LakeError
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.settings import Settings
from orchestration.evaluation.history import History
from orchestration.evaluation.session_features import ReplaySessions
from orchestration.monitoring.recompute import Builder, Folder
from quality.parity import Late, Served
from tests.support.offline import click_group

DAY = date(2024, 6, 1)
NINE = datetime(2024, 6, 1, 9, tzinfo=UTC)
AS_OF = datetime(2024, 6, 1, tzinfo=UTC)


def event(number: int, seconds: float, **fields: Any) -> Event:
    given: dict[str, Any] = {
        "event_id": f"e{number}",
        "event_type": "click",
        "event_time": NINE + timedelta(seconds=seconds),
        "session_id": "s",
        "item_id": f"i{number}",
        **fields,
    }
    return Event(**given)


def folder(
    home: Home, events: list[Event], items: list[Item] | None = None, users: list[User] | None = None
) -> Folder:
    lake = Lake(home.lake)
    by_day: dict[date, list[Event]] = {}
    for e in events:
        by_day.setdefault(e.event_time.date(), []).append(e)
    tables = [
        (lake.events_of(day), to_arrow("event", found, NINE + timedelta(hours=3)))
        for day, found in by_day.items()
    ]
    tables += [(lake.folder("item"), to_arrow("item", items or [], NINE))] if items else []
    tables += [(lake.folder("user"), to_arrow("user", users or [], NINE))] if users else []
    for path, table in tables:
        path.mkdir(parents=True)
        pq.write_table(table, path / "part-0.parquet")
    return Folder(lake, Settings(home=home.root), str.upper)


def served(second: int, count: int) -> Served:
    return Served("session_profile", "S", {"event_count": count}, NINE + timedelta(seconds=second), "r")


def recomputed(found: Folder, *rows: Served) -> list[Any]:
    return found.recompute(rows, DAY)


def test_a_session_is_folded_up_to_the_second_it_was_served_with(home: Home) -> None:
    found = folder(home, [event(1, 0), event(2, 10.5), event(3, 20)])
    [first, second, third] = recomputed(found, served(0, 1), served(10, 2), served(20, 3))
    assert [row["item_ids"] for row in (first, second, third)] == [["i1"], ["i2", "i1"], ["i3", "i2", "i1"]]


def test_of_several_events_in_a_second_the_count_tells_which_state_was_served(home: Home) -> None:
    found = folder(home, [event(1, 5.1), event(2, 5.4), event(3, 5.9)])
    rows = recomputed(found, *(served(5, n) for n in (1, 2, 3)))
    assert [row["item_ids"] for row in rows] == [["i1"], ["i2", "i1"], ["i3", "i2", "i1"]]


def test_more_events_than_were_served_is_late(home: Home) -> None:
    found = folder(home, [event(1, 0), event(2, 3), event(3, 8)])
    assert recomputed(found, served(8, 2)) == [Late]


def test_fewer_events_than_were_served_is_a_row_that_differs(home: Home) -> None:
    [row] = recomputed(folder(home, [event(1, 0)]), served(0, 4))
    assert row["event_count"] == 1


def test_a_session_the_lake_does_not_hold_is_unknown(home: Home) -> None:
    assert recomputed(folder(home, []), served(0, 1)) == [None]
    (home.root / "other").mkdir()
    assert recomputed(folder(Home(home.root / "other"), [event(1, 0, session_id="t")]), served(0, 1)) == [
        None
    ]


def test_a_session_may_have_begun_the_day_before(home: Home) -> None:
    midnight = datetime(2024, 6, 1, tzinfo=UTC)
    events = [
        event(1, 0, event_time=midnight - timedelta(minutes=5)),
        event(2, 0, event_time=midnight + timedelta(minutes=5)),
    ]
    row = Served("session_profile", "S", {"event_count": 2}, midnight + timedelta(minutes=5), "r")
    [found] = recomputed(folder(home, events), row)
    assert found["item_ids"] == ["i2", "i1"]


def test_facts_of_items_and_hashed_users_are_in_the_row(home: Home) -> None:
    items = [Item(item_id="i1", categories=("shoes",), price=20.0)]
    [row] = recomputed(folder(home, [event(1, 0, user_id="u")], items), served(0, 1))
    assert (row["user_id"], row["categories"], row["mean_price"]) == ("U", ["shoes"], 20.0)


def test_a_denied_users_session_holds_nothing(home: Home) -> None:
    users = [User(user_id="u", consent=False)]
    [row] = recomputed(folder(home, [event(1, 0, user_id="u")], None, users), served(0, 0))
    assert row["item_ids"] == []


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize("of_event", [None, True, False])
@pytest.mark.parametrize("of_user", [None, True, False])
def test_consent_is_that_of_the_stream(
    home: Home, default: bool, of_event: bool | None, of_user: bool | None
) -> None:
    settings = Settings(home=home.root, consent_default=default)
    users = [User(user_id="u", consent=of_user)]
    one = event(1, 0, user_id="u", consent=of_event)
    folder(home, [one], None, users)
    [row] = recomputed(Folder(Lake(home.lake), settings, str.upper), served(0, 1))
    replay = ReplaySessions(History((), catalogue_of([]), {"u": users[0]}, settings.weights), settings)
    replay.add([one])
    live = replay.row("s", NINE)
    assert row["item_ids"] == ([] if live is None else ["i1"])


# Builds


def write_build(home: Home, as_of: datetime = AS_OF) -> Builder:
    group = click_group()
    times = {"event_timestamp": as_of, "created_timestamp": as_of, "last_event_time": as_of, "last_item": "i"}
    rows = [{"user_id": f"u{n}", "clicks": n, **times} for n in range(5)]
    Builds(home.features).write(group.name, as_of, pa.Table.from_pylist(rows, schema=group.arrow_schema))
    return Builder(Builds(home.features), group, str.upper)


def user(key: str, as_of: datetime = AS_OF) -> Served:
    return Served("clicks", key, {}, as_of, "r")


def test_rows_come_from_the_build_of_exactly_that_time(home: Home) -> None:
    write_build(home, AS_OF - timedelta(days=1))
    builder = write_build(home)
    rows = builder.recompute([user("U3"), user("U9"), user("U1", AS_OF - timedelta(days=1)), user("u3")])
    assert [None if r is None else r["clicks"] for r in rows] == [3, None, 1, None]  # type: ignore[index]


def test_a_build_that_is_gone_leaves_its_rows_unknown(home: Home) -> None:
    assert write_build(home).recompute([user("U3", AS_OF - timedelta(days=9))]) == [None]


@pytest.mark.parametrize(("minutes", "late"), [(-1, True), (0, False), (1, False)])
def test_a_build_replaced_after_serving_is_late_not_wrong(home: Home, minutes: int, late: bool) -> None:
    builder = write_build(home)  # created at AS_OF
    [row] = builder.recompute([replace(user("U3"), time=AS_OF + timedelta(minutes=minutes))])
    assert (row is Late) == late


def test_a_torn_build_is_named(home: Home) -> None:
    builder = write_build(home)
    path: Path = Builds(home.features).path("clicks", AS_OF)
    path.write_bytes(b"PAR1")
    with pytest.raises(LakeError, match=r"data\.parquet: cannot be read"):
        builder.recompute([user("U3")])
