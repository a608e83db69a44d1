"""What the UI shows of a file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestration.builds.fingerprint import fingerprint
from orchestration.defs.metadata import file_metadata, preview, time_bounds

T = [datetime(2024, 5, day, tzinfo=UTC) for day in (3, 1, 2)]


def table(times: list[datetime | None] | None = None) -> pa.Table:
    times = T if times is None else times
    return pa.table(
        {
            "ids": pa.array([["a", "b"]] * len(times), pa.list_(pa.string())),
            "time": pa.array(times, pa.timestamp("us", tz="UTC")),
            "n": pa.array(range(len(times)), pa.int64()),
        }
    )


@pytest.mark.parametrize("statistics", [True, False])
def test_rows_bounds_and_preview_of_several_files(tmp_path: Path, statistics: bool) -> None:
    for n, times in enumerate([T[:2], T[2:]]):
        pq.write_table(table(times), tmp_path / f"{n}.parquet", write_statistics=statistics)
    found = file_metadata(sorted(tmp_path.iterdir()), "time")
    assert found["dagster/row_count"] == 3
    assert found["files"] == 2
    assert found["bytes"] == sum(p.stat().st_size for p in tmp_path.iterdir())
    assert (found["first"], found["last"]) == ("2024-05-01T00:00:00+00:00", "2024-05-03T00:00:00+00:00")
    assert found["preview"].value.splitlines()[2] == "| [a, b] | 2024-05-03T00:00:00+00:00 | 0 |"


def test_no_rows_have_no_bounds(tmp_path: Path) -> None:
    pq.write_table(table([]), tmp_path / "0.parquet")
    found = file_metadata([tmp_path / "0.parquet"], "time")
    assert found["dagster/row_count"] == 0
    assert "first" not in found
    assert "preview" not in found
    assert file_metadata([], "time")["dagster/row_count"] == 0


def test_nulls_alone_have_no_bounds(tmp_path: Path) -> None:
    pq.write_table(table([None]), tmp_path / "0.parquet")
    with pq.ParquetFile(tmp_path / "0.parquet") as file:
        assert time_bounds(file, "time") is None


def test_a_preview_hides_people_and_cuts_long_values() -> None:
    shown = preview(
        pa.table(
            {
                "user_id": ["alice"],
                "session_id": ["s-1"],
                "item_id": ["i1"],
                "title": ["x" * 100],
                "note": ["a|b\nc"],
                "many": [[1.23456, 2.0, 3.0, 4.0]],
                "none": pa.array([None], pa.string()),
            }
        )
    )
    row = shown.splitlines()[2]
    assert "alice" not in shown
    assert "s-1" not in shown
    assert "| i1 |" in row
    assert "x" * 39 + "…" in row
    assert "a¦b c" in row
    assert "[1.235, 2, 3, …]" in row
    assert row.endswith("|  |")


def test_a_preview_is_short() -> None:
    assert len(preview(table(T * 10)).splitlines()) == 2 + 5


def test_a_fingerprint_follows_files_and_words(tmp_path: Path) -> None:
    one, two = tmp_path / "1.parquet", tmp_path / "2.parquet"
    one.write_bytes(b"a")
    two.write_bytes(b"b")
    base = fingerprint([one, two])
    assert fingerprint([two, one]) == base
    assert len(base) == 16
    assert fingerprint([one]) != base
    assert fingerprint([one, two], "code") != base
    assert fingerprint([one, two], "code") != fingerprint([one, two], "other")
    two.write_bytes(b"bb")
    assert fingerprint([one, two]) != base
