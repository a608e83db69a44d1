"""From a build to a store: everything arrives, in pieces, and errors name the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.errors import BuildError, StoreError
from feature_repo.group import FeatureGroup
from feature_repo.home import Home
from feature_repo.lake.lake import Build, Builds
from feature_repo.online import EncodedRow, decode_value
from orchestration.builds.build import end_of
from orchestration.builds.current import chosen_builds
from orchestration.materialize.checkpoint import read_checkpoint
from orchestration.materialize.materialize import materialize, read_batches
from tests.support.offline import click_group

AS_OF = end_of(date(2024, 5, 30))


class FakeStore:
    """Keeps rows; monotone by event time, as the protocol says."""

    def __init__(self) -> None:
        self.rows: dict[str, EncodedRow] = {}
        self.calls: list[int] = []
        self.kept: dict[str, bytes] = {}
        self.fail_after: int | None = None

    def write_encoded(self, group: FeatureGroup, rows: Sequence[EncodedRow], *, check: bool = True) -> int:
        if self.fail_after is not None and len(self.calls) >= self.fail_after:
            raise StoreError("online store: gone")
        self.calls.append(len(rows))
        taken = [r for r in rows if r.key not in self.rows or self.rows[r.key].micros <= r.micros]
        self.rows.update({r.key: r for r in taken})
        return len(taken)

    def put_marks(self, marks: Mapping[str, bytes]) -> None:
        self.kept.update(marks)

    def marks(self, prefix: str = "") -> dict[str, bytes]:
        return {name: raw for name, raw in self.kept.items() if name.startswith(prefix)}

    def values(self, key: str) -> dict[str, Any]:
        raws = self.rows[key].raws
        return {n: decode_value(raw) for n, raw in zip(click_group().feature_names, raws, strict=True)}


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


def build(home: Home, rows: pa.Table, as_of: datetime = AS_OF, row_group_size: int = 50_000) -> Build:
    path = Builds(home.features).path("clicks", as_of)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, row_group_size=row_group_size)
    return Build(path, as_of, as_of, rows.num_rows)


def test_every_row_arrives_with_values_and_event_time(home: Home) -> None:
    store = FakeStore()
    told: list[int] = []
    assert materialize(click_group(), build(home, table(12_000)), store, told.append) == 12_000  # type: ignore[arg-type]
    assert len(store.rows) == sum(told) == 12_000
    assert max(store.calls) <= 5_000
    assert store.values("u3") == {
        "clicks": 3,
        "last_item": None,
        "last_event_time": AS_OF - timedelta(hours=4),
    }
    assert store.rows["u3"].micros == AS_OF.timestamp() * 1_000_000


def test_an_older_build_changes_nothing(home: Home) -> None:
    store = FakeStore()
    newer = build(home, table(3, clicks=100))
    older = build(home, table(3, AS_OF - timedelta(days=1)), AS_OF - timedelta(days=1))
    assert materialize(click_group(), newer, store) == 3  # type: ignore[arg-type]
    assert materialize(click_group(), older, store) == 0  # type: ignore[arg-type]
    assert store.values("u0")["clicks"] == 100


def test_an_interrupted_write_goes_on_where_it_stopped(home: Home) -> None:
    store = FakeStore()
    found = build(home, table(12_000), row_group_size=4_000)
    store.fail_after = 2
    with pytest.raises(StoreError, match="gone"):
        materialize(click_group(), found, store)  # type: ignore[arg-type]
    mark = read_checkpoint(click_group(), store)  # type: ignore[arg-type]
    assert mark is not None
    assert (mark.done, mark.rows, mark.complete) == ((0, 1), 8_000, False)
    store.fail_after, store.calls = None, []
    told: list[int] = []
    assert materialize(click_group(), found, store, told.append) == 12_000  # type: ignore[arg-type]
    assert (sum(store.calls), sum(told), len(store.rows)) == (4_000, 12_000, 12_000)


def test_a_complete_write_is_repeated_whole_when_asked_again(home: Home) -> None:
    store = FakeStore()
    found = build(home, table(10), row_group_size=5)
    assert materialize(click_group(), found, store) == 10  # type: ignore[arg-type]
    store.rows.clear()
    assert materialize(click_group(), found, store) == 10  # type: ignore[arg-type]
    assert len(store.rows) == 10


def test_another_build_of_the_same_time_does_not_resume(home: Home) -> None:
    store = FakeStore()
    found = build(home, table(10), row_group_size=5)
    store.fail_after = 1
    with pytest.raises(StoreError):
        materialize(click_group(), found, store)  # type: ignore[arg-type]
    store.fail_after = None
    rebuilt = replace(found, created=found.created + timedelta(seconds=1))
    assert materialize(click_group(), rebuilt, store) == 10  # type: ignore[arg-type]


def test_an_unreadable_checkpoint_counts_as_none(home: Home) -> None:
    store = FakeStore()
    store.kept["materialized/clicks"] = b"not json"
    assert read_checkpoint(click_group(), store) is None  # type: ignore[arg-type]
    assert materialize(click_group(), build(home, table(3)), store) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"PAR1 short", None])
def test_an_unreadable_build_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "data.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BuildError, match=r"data\.parquet: not a readable build .*; rebuild its"):
        list(read_batches(path))


def test_current_builds_are_chosen_by_name(home: Home) -> None:
    with pytest.raises(BuildError, match="features: nothing built yet; `headrace build` builds every group"):
        chosen_builds(home)
    with pytest.raises(BuildError, match=r"clicks: not a batch group; the batch groups are .*user_profile"):
        chosen_builds(home, ["clicks"])
    with pytest.raises(BuildError, match="user_profile: nothing built yet; `headrace build` builds it"):
        chosen_builds(home, ["user_profile"])
    found = Build(home.features / "user_profile" / "v1" / "as_of=x" / "data.parquet", AS_OF, AS_OF, 7)
    found.path.parent.mkdir(parents=True)
    Builds(home.features).promote("user_profile", found)
    assert [(g.name, b.rows) for g, b in chosen_builds(home)] == [("user_profile", 7)]
