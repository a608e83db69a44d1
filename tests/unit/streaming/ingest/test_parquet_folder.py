"""A folder of the lake as it grows: every row kept, files kept few, a failed write leaves no trace."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contract.validation import Item, to_arrow
from feature_repo.errors import LakeError
from feature_repo.lake.lake import present
from streaming.ingest.parquet_folder import KEEP_SUPERSEDED_S, MAX_FILES, ParquetFolder

NOW = datetime(2024, 6, 1, tzinfo=UTC)


def table(*minutes: int) -> pa.Table:
    times = [NOW + timedelta(minutes=m) for m in minutes]
    return pa.table({"n": list(minutes), "event_time": pa.array(times, pa.timestamp("us", tz="UTC"))})


def rows(folder: Path, column: str = "n") -> list[Any]:
    return [v for path in present(folder) for v in pq.read_table(path).column(column).to_pylist()]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.integers(0, 100), min_size=1, max_size=4), max_size=3 * MAX_FILES))
def test_every_row_is_kept_and_files_are_few(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("day")
    for n, batch in enumerate(batches, 1):
        ParquetFolder(folder).add(table(*batch))
        assert len(present(folder)) <= MAX_FILES
        assert sorted(rows(folder)) == sorted(v for b in batches[:n] for v in b)


def test_a_merged_file_is_in_time_order(tmp_path: Path) -> None:
    for n in range(MAX_FILES + 1):
        ParquetFolder(tmp_path).add(table(100 - n, n))
    (merged,) = present(tmp_path)
    assert merged.name == f"upto-{MAX_FILES:08d}.parquet"
    assert rows(tmp_path) == sorted(rows(tmp_path))


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 99)), min_size=1, max_size=2 * MAX_FILES))
def test_of_a_key_the_newest_row_survives_a_merge(
    tmp_path_factory: pytest.TempPathFactory, versions: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("items")
    for n, (item_id, version) in enumerate(versions):
        at = NOW + timedelta(seconds=n)
        ParquetFolder(folder, "item").add(to_arrow("item", [Item(item_id=item_id, title=str(version))], at))
    found = [row for path in present(folder) for row in pq.read_table(path).to_pylist()]
    newest = {row["item_id"]: row["title"] for row in sorted(found, key=lambda r: r["ingested_at"])}
    assert newest == {item_id: str(version) for item_id, version in versions}


def test_a_write_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pq.write_table

    def half(written: pa.Table, path: Path, **options: Any) -> None:
        real(written.slice(0, 1), path, **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", half)
    with pytest.raises(OSError, match="No space left"):
        ParquetFolder(tmp_path).add(table(1, 2))
    assert list(tmp_path.iterdir()) == []


def test_a_merge_that_fails_leaves_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(MAX_FILES):
        ParquetFolder(tmp_path).add(table(n))
    real = ParquetFolder._write

    def no_merge(self: ParquetFolder, written: pa.Table, name: str) -> None:
        if name.startswith("upto"):
            raise OSError(28, "No space left on device")
        real(self, written, name)

    monkeypatch.setattr(ParquetFolder, "_write", no_merge)
    with pytest.raises(OSError, match="No space left"):
        ParquetFolder(tmp_path).add(table(99))
    monkeypatch.undo()
    assert sorted(rows(tmp_path)) == [*range(MAX_FILES), 99]
    ParquetFolder(tmp_path).add(table(100))
    assert len(present(tmp_path)) == 1
    assert sorted(rows(tmp_path)) == [*range(MAX_FILES), 99, 100]


def test_files_put_there_by_hand_are_read_and_left_alone(tmp_path: Path) -> None:
    pq.write_table(table(1000), tmp_path / "data.parquet")
    for n in range(MAX_FILES + 1):
        ParquetFolder(tmp_path).add(table(n))
    assert (tmp_path / "data.parquet").exists()
    assert sorted(rows(tmp_path)) == [*range(MAX_FILES + 1), 1000]


def test_parts_that_do_not_fit_together_are_an_error_that_names_the_folder(tmp_path: Path) -> None:
    for n in range(MAX_FILES):
        ParquetFolder(tmp_path).add(table(n))
    other = table(1).set_column(0, "n", pa.array([["a"]]))
    with pytest.raises(LakeError, match=str(tmp_path)):
        ParquetFolder(tmp_path).add(other)


def test_a_damaged_part_is_named_in_a_merge(tmp_path: Path) -> None:
    for n in range(MAX_FILES):
        ParquetFolder(tmp_path).add(table(n))
    hurt = present(tmp_path)[3]
    hurt.write_bytes(hurt.read_bytes()[:50])
    with pytest.raises(LakeError, match=rf"{hurt}: damaged Parquet file"):
        ParquetFolder(tmp_path).add(table(99))


def age(folder: Path, seconds: float) -> None:
    for path in folder.iterdir():
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


@settings(deadline=None, max_examples=10)
@given(st.lists(st.sampled_from([0.0, KEEP_SUPERSEDED_S / 2, 2 * KEEP_SUPERSEDED_S]), max_size=4 * MAX_FILES))
def test_old_files_go_and_no_row_with_them(
    tmp_path_factory: pytest.TempPathFactory, pauses: list[float]
) -> None:
    """However long it rests between additions, a reader of today's listing finds every row once."""
    folder = tmp_path_factory.mktemp("day")
    for n, pause in enumerate(pauses):
        listed = present(folder) if folder.exists() else []
        age(folder, pause)
        ParquetFolder(folder).add(table(n))
        assert sorted(rows(folder)) == list(range(n + 1))
        if pause == 0.0:
            assert all(path.exists() for path in listed), "a reader may still be at them"
    if pauses and len(pauses) > 2 * MAX_FILES:
        merged = set(folder.glob("*.parquet")) - set(present(folder))
        age(folder, 2 * KEEP_SUPERSEDED_S)
        for n in range(len(pauses), len(pauses) + MAX_FILES + 1):
            ParquetFolder(folder).add(table(n))
        assert not any(path.exists() for path in merged), "what was merged before is gone"


def test_what_a_crash_left_goes_once_nobody_can_be_writing_it(tmp_path: Path) -> None:
    fresh, old = tmp_path / ".part-00000090.parquet.tmp", tmp_path / ".part-00000091.parquet.tmp"
    for n in range(MAX_FILES):
        ParquetFolder(tmp_path).add(table(n))
    for path in (fresh, old):
        path.write_bytes(b"PAR1")
    os.utime(old, (0, 0))
    ParquetFolder(tmp_path).add(table(99))
    assert (fresh.exists(), old.exists()) == (True, False)
