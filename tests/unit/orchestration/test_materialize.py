"""From a build to a store: everything arrives, in pieces, and errors name the file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from feature_repo.errors import BuildError
from feature_repo.group import FeatureGroup
from feature_repo.home import Home
from feature_repo.lake import Build, Builds
from feature_repo.online import OnlineRow
from orchestration.build import end_of
from orchestration.materialize import chosen_builds, materialize, online_rows, read_batches
from tests.offline import click_group

AS_OF = end_of(date(2024, 5, 30))


class FakeStore:
    """Keeps rows; monotone by event time, as the protocol says."""

    def __init__(self) -> None:
        self.rows: dict[str, OnlineRow] = {}
        self.calls: list[int] = []

    def write(self, group: FeatureGroup, rows: Sequence[OnlineRow]) -> int:
        self.calls.append(len(rows))
        taken = [r for r in rows if r.key not in self.rows or self.rows[r.key].event_time <= r.event_time]
        self.rows.update({r.key: r for r in taken})
        return len(taken)


def table(count: int, as_of: datetime = AS_OF, clicks: int = 0) -> pa.Table:
    return pa.Table.from_pydict(
        {
            "user_id": [f"u{n}" for n in range(count)],
            "clicks": [clicks + n for n in range(count)],
            "last_item": [None if n % 2 else f"i{n}" for n in range(count)],
            "last_event_time": [as_of - timedelta(hours=n + 1) for n in range(count)],
            "event_timestamp": [as_of] * count,
            "created_timestamp": [as_of] * count,
        },
        schema=click_group().arrow_schema,
    )


def build(home: Home, rows: pa.Table, as_of: datetime = AS_OF) -> Build:
    path = Builds(home.features).write("clicks", as_of, rows)
    return Build(path, as_of, as_of, rows.num_rows)


def test_every_row_arrives_with_values_and_event_time(home: Home) -> None:
    store = FakeStore()
    told: list[int] = []
    assert materialize(click_group(), build(home, table(12_000)), store, told.append) == 12_000  # type: ignore[arg-type]
    assert len(store.rows) == sum(told) == 12_000
    assert max(store.calls) <= 5_000
    assert store.rows["u3"] == OnlineRow(
        "u3",
        {"clicks": 3, "last_item": None, "last_event_time": AS_OF - timedelta(hours=4)},
        AS_OF,
    )


def test_an_older_build_changes_nothing(home: Home) -> None:
    store = FakeStore()
    newer = build(home, table(3, clicks=100))
    older = build(home, table(3, AS_OF - timedelta(days=1)), AS_OF - timedelta(days=1))
    assert materialize(click_group(), newer, store) == 3  # type: ignore[arg-type]
    assert materialize(click_group(), older, store) == 0  # type: ignore[arg-type]
    assert store.rows["u0"].values["clicks"] == 100


def test_a_batch_becomes_rows_column_by_column() -> None:
    [batch] = table(2).to_batches()
    rows = online_rows(click_group(), batch)
    assert [(r.key, r.values["clicks"], r.values["last_item"]) for r in rows] == [
        ("u0", 0, "i0"),
        ("u1", 1, None),
    ]
    assert all(r.event_time == datetime(2024, 5, 31, tzinfo=UTC) for r in rows)


@pytest.mark.parametrize("content", [b"", b"PAR1 short", None])
def test_an_unreadable_build_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "data.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        BuildError, match=r"data\.parquet: not a readable build .*; build its partition again"
    ):
        list(read_batches(path))


def test_current_builds_are_chosen_by_name(home: Home) -> None:
    with pytest.raises(BuildError, match="features: nothing built yet; `headrace build` builds every group"):
        chosen_builds(home)
    with pytest.raises(BuildError, match=r"clicks: no batch group; there are .*user_profile"):
        chosen_builds(home, ["clicks"])
    with pytest.raises(BuildError, match="user_profile: nothing built yet; `headrace build` builds it"):
        chosen_builds(home, ["user_profile"])
    found = Build(home.features / "user_profile" / "v1" / "as_of=x" / "data.parquet", AS_OF, AS_OF, 7)
    found.path.parent.mkdir(parents=True)
    Builds(home.features).promote("user_profile", found)
    assert [(g.name, b.rows) for g, b in chosen_builds(home)] == [("user_profile", 7)]
