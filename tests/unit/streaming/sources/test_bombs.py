"""Files made to cost more than they are worth: constant memory, and the limit's name."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.errors import SourceError
from streaming.sources import InputFile, Limits
from streaming.sources.formats.headrace import HeadraceSource
from tests.unit.streaming.sources.test_files import PACKINGS

MIB = 1 << 20
ITEM = b'{"record": "item", "item_id": "i"}\n'


def peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def drain(path: Path, limits: Limits) -> list[str]:
    """Read all rows, keep none; the codes of those with errors."""
    return [r.error.code for r in HeadraceSource().rows(InputFile(path, limits), None) if r.error is not None]


def test_a_line_without_end_costs_itself_in_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    with path.open("wb") as file:
        file.write(ITEM)
        for _ in range(64):
            file.write(b"x" * MIB)
        file.write(b"\n" + ITEM)
    codes: list[str] = []
    assert peak_of(lambda: codes.extend(drain(path, Limits(row_bytes=100_000)))) < 12 * MIB
    assert codes == ["row_too_long"]


def test_a_csv_row_without_end_costs_itself_in_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    with path.open("wb") as file:
        file.write(b'item_id,title\ni1,"')
        for _ in range(32):
            file.write(b"x" * MIB)
        file.write(b'"\ni2,"open\n' + b"".join(b"j%d,x\n" % n for n in range(100_000)))
    codes: list[str] = []
    # An open quote holds 128 KiB of lines.
    assert peak_of(lambda: codes.extend(drain(path, Limits(row_bytes=100_000)))) < 16 * MIB
    assert codes == ["row_too_long", "bad_csv_row"]


def test_millions_of_empty_lines_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(ITEM + b"\n" * (8 * MIB) + ITEM)
    lines = []

    def read() -> None:
        lines.extend(row.line for row in HeadraceSource().rows(InputFile(path), None))

    assert peak_of(read) < 30 * MIB
    assert lines == [1, 8 * MIB + 2]


@pytest.mark.parametrize("how", PACKINGS)
@pytest.mark.parametrize("what", [b"\n", b"x"])
def test_a_packed_bomb_is_refused_in_constant_memory(
    tmp_path: Path, how: str, what: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming.sources.packing.RATIO_FROM", 8 * MIB)
    path = tmp_path / "f.jsonl"
    path.write_bytes(PACKINGS[how](ITEM + what * (48 * MIB)))

    def refused() -> None:
        with pytest.raises(SourceError, match=r"times its size, the limit HEADRACE_INGEST_UNPACKED_RATIO"):
            list(HeadraceSource().rows(InputFile(path, Limits(row_bytes=100_000)), None))

    assert peak_of(refused) < 20 * MIB


def test_the_unpacked_size_is_bounded_and_what_came_before_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl.gz"
    path.write_bytes(gzip.compress(ITEM * 200_000))
    rows = []
    with pytest.raises(SourceError, match=r"more than 2,000,000 bytes, .* HEADRACE_INGEST_UNPACKED_BYTES"):
        rows.extend(HeadraceSource().rows(InputFile(path, Limits(unpacked_bytes=2_000_000)), None))
    assert len(rows) > 10_000


def test_a_zip_of_zeros_is_seen_from_its_first_bytes(tmp_path: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", b"\0" * (20 * MIB))
    (tmp_path / "f.zip").write_bytes(made.getvalue())
    with pytest.raises(SourceError, match="binary data"):
        list(HeadraceSource().rows(InputFile(tmp_path / "f.zip"), None))


def test_a_parquet_column_that_repeats_one_long_text_is_read_in_small_batches(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"item_id": pa.array(["x" * 200_000] * 1_000)}), path)
    before = pa.total_allocated_bytes()
    most = 0
    for _ in HeadraceSource().rows(InputFile(path), "item"):
        most = max(most, pa.total_allocated_bytes() - before)
    assert path.stat().st_size < MIB
    assert most < 100 * MIB
