"""Shared parts of the offline tests: a small lake, a small group, a runtime with an empty log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.contract.validation import Event, Item, ShownItem, User, to_arrow
from feature_repo.group import USER, BatchParams, DType, Expectation, Feature, FeatureGroup, LakeTables
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from orchestration.runtime import Runtime


def event(number: int, time: datetime, **fields: Any) -> Event:
    given: dict[str, Any] = {
        "event_id": f"e{number}",
        "event_type": "click",
        "event_time": time,
        "session_id": f"s{number % 3}",
        "user_id": f"u{number % 5}",
        "item_id": f"i{number % 7}",
        **fields,
    }
    return Event(**given)


def day_events(day: date, count: int, offset: int = 0) -> list[Event]:
    """Create `count` clicks of five users, evenly over the day; each tenth is an impression of 3 items."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    step = timedelta(days=1) / max(count, 1)
    found = []
    for n in range(count):
        number = offset + day.toordinal() * 10_000 + n
        time = start + step * n
        if n % 10:
            found.append(event(number, time))
        else:
            shown = tuple(ShownItem(f"i{(n + k) % 7}") for k in range(3))
            found.append(event(number, time, event_type="impression", item_id=None, items=shown))
    return found


def write_events(
    lake: Lake, day: date, events: Sequence[Event], name: str = "part-0", came: datetime | None = None
) -> Path:
    """Write an event file of the lake, ingested now or at the given time."""
    path = lake.events_of(day) / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(to_arrow("event", list(events), came or datetime.now(UTC)), path)
    return path


def write_records(lake: Lake, items: Sequence[Item] = (), users: Sequence[User] = ()) -> None:
    for kind, records in (("item", items), ("user", users)):
        if records:
            folder = lake.folder(kind)
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(to_arrow(kind, list(records), datetime.now(UTC)), folder / "part-0.parquet")


def count_clicks(tables: LakeTables, params: BatchParams) -> Any:
    clicks = tables.events.filter(tables.events.event_type == "click", tables.events.user_id.notnull())
    return clicks.group_by("user_id").aggregate(
        clicks=clicks.count(), last_item=clicks.item_id.max(), last_event_time=clicks.event_time.max()
    )


def click_group(
    name: str = "clicks", batch: Callable[[LakeTables, BatchParams], Any] = count_clicks, **more: Any
) -> FeatureGroup:
    """Create a group small enough to compute by hand."""
    fields: dict[str, Any] = {
        "name": name,
        "entity": USER,
        "meaning": "Clicks of a user.",
        "features": (
            Feature("clicks", DType.INT64, "Clicks.", "events", (Expectation("between", minimum=0),)),
            Feature("last_item", DType.STRING, "Greatest item id clicked."),
            Feature("last_event_time", DType.TIMESTAMP, "Last click."),
        ),
        "freshness": timedelta(hours=26),
        "ttl": timedelta(days=90),
        "batch": batch,
        "expectations": (Expectation("row_count_between", minimum=1),),
        **more,
    }
    return FeatureGroup(**fields)


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a build by join key."""
    table: pa.Table = pq.read_table(path, partitioning=None)
    key = table.column_names[0]
    return {row[key]: row for row in table.to_pylist()}


def three_days(settings: Settings, home: Home, first: date, now: datetime) -> Runtime:
    """Create a runtime whose lake has forty events on each of three days, none after `now`."""
    found = Runtime(settings, home, lambda: now, lambda *_: frozenset())
    for day in (first + timedelta(days=n) for n in range(3)):
        write_events(found.lake, day, [e for e in day_events(day, 40) if e.event_time < now])
    return found
