"""Feature builds: written aside, current only once promoted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.lake.lake import Build, Builds

AS_OF = datetime(2024, 5, 1, tzinfo=UTC)


def test_there_is_no_current_build_before_the_first(tmp_path: Path) -> None:
    assert Builds(tmp_path).current("user_profile") is None


def test_a_build_is_current_only_after_promotion(tmp_path: Path) -> None:
    builds = Builds(tmp_path)
    first = builds.write("g", AS_OF, pa.table({"a": [1]}))
    builds.promote("g", Build(first, AS_OF, AS_OF, 1))
    second = builds.write("g", AS_OF + timedelta(days=1), pa.table({"a": [1, 2]}))
    current = builds.current("g")
    assert current == Build(first, AS_OF, AS_OF, 1)
    builds.promote("g", Build(second, AS_OF + timedelta(days=1), AS_OF, 2))
    promoted = builds.current("g")
    assert promoted is not None
    assert promoted.path == second
    assert builds.history("g") == [first, second]


def test_the_same_time_replaces_the_build_whole(tmp_path: Path) -> None:
    builds = Builds(tmp_path)
    builds.write("g", AS_OF, pa.table({"a": [1, 2, 3]}))
    path = builds.write("g", AS_OF, pa.table({"a": [9]}))
    assert pq.read_table(path).to_pydict() == {"a": [9]}
    assert [p.name for p in path.parent.iterdir()] == ["data.parquet"]
