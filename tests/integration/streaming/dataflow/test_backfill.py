"""`headrace backfill sessions`: the same flow over the lake gives the values the live stream gave."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from feature_repo.contract.validation import Event, Item, to_arrow
from feature_repo.errors import LakeError, SourceError
from feature_repo.groups.session_profile import GROUP
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.settings import Settings
from orchestration.cli import app
from streaming.dataflow.backfill import LakeLog, backfill_sessions
from tests.support.stream_support import T0, as_stored, event, publish, session_values, stream_to_end

pytestmark = pytest.mark.usefixtures("zone")

DAY = T0.date()
ITEMS = [Item(item_id=f"i{n}", categories=(f"c{n % 5}",), price=float(n)) for n in range(30)]
NEXT = datetime(2024, 6, 2, tzinfo=UTC)


def to_lake(
    home: Home, events: list[Event], items: list[Item] = ITEMS, came: datetime = T0 + timedelta(days=30)
) -> None:
    """Days of events as `streaming.ingest.lake_writer` leaves them; the order within a file is no order of
    time.
    """
    lake = Lake(home.lake)
    days: dict[date, list[Event]] = {}
    for e in {e.event_id: e for e in events}.values():
        days.setdefault(e.event_time.date(), []).append(e)
    for day, mine in days.items():
        lake.events_of(day).mkdir(parents=True, exist_ok=True)
        pq.write_table(to_arrow("event", mine, came), lake.events_of(day) / "a.parquet")
    lake.folder("item").mkdir(parents=True, exist_ok=True)
    pq.write_table(to_arrow("item", items, T0), lake.folder("item") / "a.parquet")


def test_an_event_stamped_ahead_counts_as_of_when_it_came(home: Home) -> None:
    """Stamped two hours ahead, just before midnight: it lies in the next day's file."""
    came = T0.replace(hour=23)
    true = [event(2, 11 * 3600 - 2, item_id="i2"), event(3, 11 * 3600 - 1, item_id="i3")]
    to_lake(home, [event(1, 13 * 3600, item_id="i1"), *true], came=came)
    counts = backfill_sessions(Settings(home=home.root), T0.date(), T0.date() + timedelta(days=1))
    assert counts == {T0.date(): 3}
    rows = pq.read_table(next(home.features.glob("session_profile/v1/*/data.parquet"))).to_pylist()
    newest = max(rows, key=lambda row: row["event_timestamp"])
    assert (newest["event_timestamp"], newest["item_ids"]) == (came, ["i1", "i3", "i2"])


def a_day(seed: int = 3, count: int = 2000) -> list[Event]:
    """A day of events, up to nine minutes out of order, some repeated."""
    rng = random.Random(seed)
    events = [
        event(
            n,
            rng.uniform(-12 * 3600, 12 * 3600 - 1),
            f"s{rng.randrange(60)}",
            event_type=rng.choice(["view", "click", "add_to_cart", "purchase"]),
            item_id=f"i{rng.randrange(35)}",
            user_id=f"u{n % 7}" if n % 3 else None,
        )
        for n in range(count)
    ]
    events.sort(key=lambda e: e.event_time + timedelta(seconds=rng.uniform(0, 540)))
    return events + rng.sample(events[-50:], 20)


def history(home: Home, as_of: datetime = NEXT) -> list[dict[str, Any]]:
    path = Builds(home.features).path(GROUP.name, as_of)
    rows: list[dict[str, Any]] = pq.ParquetFile(path).read().to_pylist()
    return rows


def test_live_and_backfilled_values_are_equal_for_a_whole_day(home: Home) -> None:
    settings = Settings(home=home.root, log_partitions=3)
    events = a_day()
    to_lake(home, events)
    publish(settings, events)
    stream_to_end(settings)

    counts = backfill_sessions(settings, DAY, DAY)

    rows = history(home)
    assert counts == {DAY: len(rows)} == {DAY: 2000}
    newest: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda r: r["event_timestamp"]):
        newest[row["session_id"]] = row
    live = session_values(settings, sorted(newest))
    backfilled = {key: as_stored({n: row[n] for n in GROUP.feature_names}) for key, row in newest.items()}
    assert live == backfilled


def test_each_row_is_the_session_as_of_its_event(home: Home) -> None:
    settings = Settings(home=home.root)
    to_lake(home, [event(n, n * 60, item_id=f"i{n}") for n in range(5)])
    backfill_sessions(settings, DAY, DAY)
    rows = history(home)
    assert [row["event_count"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["item_ids"] for row in rows][:2] == [["i0"], ["i1", "i0"]]
    assert [row["event_timestamp"] for row in rows] == [T0 + timedelta(minutes=n) for n in range(5)]
    assert pq.ParquetFile(Builds(home.features).path(GROUP.name, NEXT)).schema_arrow == GROUP.arrow_schema


def test_a_session_that_expires_within_a_chunk_keeps_its_history(home: Home) -> None:
    """Few events a day: a thousand of them, read at once, span many times to live."""
    settings = Settings(home=home.root, session_ttl_s=3600.0)
    events = [event(n, n * 1200.0, f"s{n // 3}") for n in range(200)]
    to_lake(home, events)
    last = events[-1].event_time.date()
    counts = backfill_sessions(settings, DAY, last)
    assert sum(counts.values()) == len(events)
    assert {e.event_time.date() for e in events} == set(counts)
    assert [row["event_count"] for row in history(home)] == [n % 3 + 1 for n in range(counts[DAY])]


def test_a_session_that_runs_into_the_first_day_is_whole(home: Home) -> None:
    settings = Settings(home=home.root)
    before_midnight = 12 * 3600 - 300
    to_lake(home, [event(1, before_midnight, item_id="i1"), event(2, before_midnight + 600, item_id="i2")])
    counts = backfill_sessions(settings, date(2024, 6, 2), date(2024, 6, 2))
    assert counts == {date(2024, 6, 2): 1}
    [row] = history(home, datetime(2024, 6, 3, tzinfo=UTC))
    assert row["item_ids"] == ["i2", "i1"]
    assert not Builds(home.features).path(GROUP.name, NEXT).exists()


def test_again_replaces_a_day_whole(home: Home) -> None:
    settings = Settings(home=home.root)
    to_lake(home, [event(1, 0), event(2, 1)])
    assert backfill_sessions(settings, DAY, DAY) == backfill_sessions(settings, DAY, DAY)
    assert len(history(home)) == 2


def test_days_without_events_are_named(home: Home) -> None:
    settings = Settings(home=home.root)
    with pytest.raises(SourceError, match=r"the lake holds no day at all\. Ingest first"):
        backfill_sessions(settings, DAY, DAY)
    to_lake(home, [event(1, 0)])
    with pytest.raises(SourceError, match=r"no events of 2023-01-01 … 2023-01-02; the lake holds 2024-06-01"):
        backfill_sessions(settings, date(2023, 1, 1), date(2023, 1, 2))


def test_a_damaged_day_leaves_no_half_file(home: Home) -> None:
    settings = Settings(home=home.root)
    to_lake(home, [event(1, 0), event(2, 86_400)])
    next(Lake(home.lake).events_of(date(2024, 6, 2)).glob("*.parquet")).write_bytes(b"PAR1 no")
    with pytest.raises(LakeError, match="events of 2024-06-02 cannot be read"):
        backfill_sessions(settings, DAY, date(2024, 6, 2))
    assert list(home.features.rglob("*.parquet*")) == []


def test_a_lake_is_read_forward_once(home: Home) -> None:
    to_lake(home, [event(n, n) for n in range(3)])
    days: list[date] = []
    log = LakeLog(Lake(home.lake), DAY, DAY + timedelta(days=1), days.append)
    batch = log.read(0, log.start(0), 2)
    assert (len(batch.records), batch.position, log.end(0)) == (2, "2", "2")
    with pytest.raises(LakeError, match="a lake is read forward once"):
        log.read(0, "0", 1)
    assert len(log.read(0, "2", 5).records) == 1
    assert days == [DAY]


def test_the_command_prints_rows_by_day(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(home.root))
    to_lake(home, [event(n, n) for n in range(3)])
    done = CliRunner().invoke(app, ["backfill", "sessions", "--from", "2024-06-01"])
    assert done.exit_code == 0, done.output
    assert "2024-06-01  3 rows" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "June"], "'June' is not a date; write e.g. 2024-06-01"),
        (["--from", "2024-06-02", "--to", "2024-06-01"], "2024-06-01 is before --from 2024-06-02"),
    ],
)
def test_a_bad_day_is_explained(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["backfill", "sessions", *arguments], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert message in done.output
