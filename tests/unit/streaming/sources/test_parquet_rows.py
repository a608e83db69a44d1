"""Parquet as other tools write it: what cannot be read costs its own row, row group or file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contract.attribute import attribute
from feature_repo.contract.validation import Contract, Event
from feature_repo.errors import SourceError
from feature_repo.settings import Settings
from streaming.sources import InputFile, Limits, Row
from streaming.sources.formats.headrace import HeadraceSource
from streaming.sources.parquet_rows import ParquetTable

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


def events(count: int = 2, **columns: Any) -> pa.Table:
    ids = [f"e{n}" for n in range(count)]
    return pa.table(
        {
            "event_id": ids,
            "event_type": ["click"] * count,
            "event_time": pa.array([NOW] * count, pa.timestamp("us", tz="UTC")),
            "session_id": ["s"] * count,
            "item_id": ["i"] * count,
            **columns,
        }
    )


def rows(table: pa.Table, path: Path, **options: Any) -> list[Row]:
    pq.write_table(table, path / "f.parquet", **options)
    return list(HeadraceSource().rows(InputFile(path / "f.parquet"), "event"))


def properties(found: list[Row]) -> list[dict[str, str]]:
    contract = Contract(Settings(), lambda: NOW)
    records = [contract.parse(row.raw) for row in found if row.error is None]
    return [record.properties for record in records if isinstance(record, Event)]


SECONDS = [1717243205, 1717243206]


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (pa.array(SECONDS, pa.timestamp("s")), "2024-06-01T12:00:05"),
        (pa.array([s * 10**9 + 250 for s in SECONDS], pa.timestamp("ns")), "2024-06-01T12:00:05"),
        (pa.array(SECONDS, pa.timestamp("s", tz="UTC")), "2024-06-01T12:00:05Z"),
        (pa.array([s * 10**9 for s in SECONDS], pa.timestamp("ns", tz="US/Mars")), "2024-06-01T12:00:05Z"),
        (pa.array([90 * 10**9] * 2, pa.duration("ns")), "PT90S"),
        (pa.array([45_296 * 10**9] * 2, pa.time64("ns")), "12:34:56"),
        (pa.array([19_875, 0], pa.date32()), "2024-06-01"),
        (pa.array([[SECONDS[0] * 10**9], []], pa.list_(pa.timestamp("ns"))), '["2024-06-01T12:00:05"]'),
        (pa.array(["web", "app"]).dictionary_encode(), "web"),
        (pa.array([b"ab", b"c"]), "ab"),
        (pa.array([b"\xff", b"c"]), "/w=="),
    ],
)
def test_an_extra_column_of_any_type_is_kept_as_text(tmp_path: Path, values: pa.Array, first: str) -> None:
    found = rows(events(extra=values), tmp_path)
    assert [row.error for row in found] == [None, None]
    assert properties(found)[0]["extra"] == first


def test_an_extra_column_is_an_attribute_by_the_same_rule() -> None:
    assert attribute([1, 2.5, None, True, "x"]) == ["1", "2.5", "true", "x"]
    assert attribute(timedelta(seconds=90)) == "PT90S"
    assert attribute(2**53) == float(2**53)
    assert attribute(2**53 + 1) == "9007199254740993"
    assert attribute({"a": 1}) is None


def binary(*cells: bytes) -> pa.Array:
    """Text cells that need not be UTF-8, as other writers leave them."""
    made = pa.array(cells, pa.binary())
    return pa.StringArray.from_buffers(len(cells), made.buffers()[1], made.buffers()[2])


@pytest.mark.parametrize(
    ("column", "values", "words", "kept"),
    [
        (
            "event_time",
            pa.array([1717243205000, 1717243205000000], pa.timestamp("ms", tz="UTC")),
            r"event_time: 1717243205000000 as timestamp\[ms, tz=UTC\] cannot be read",
            b'"event_time":"1717243205000000"',
        ),
        (
            "seen",
            pa.array([0, 2**62], pa.timestamp("us")),
            r"seen: 4611686018427387904 as timestamp\[us\] cannot be read",
            b'"seen":"4611686018427387904"',
        ),
        ("query", binary(b"good", b"caf\xe9"), r"query: not valid UTF-8 .*caf.xe9", b'"base64":"Y2Fm6Q=="'),
        ("tags", pa.array([["a"], ["b"]]), None, None),
    ],
)
def test_a_cell_that_cannot_be_read_costs_its_row(
    tmp_path: Path, column: str, values: pa.Array, words: str | None, kept: bytes | None
) -> None:
    table = events(3)
    values = pa.concat_arrays([values, values.slice(0, 1)])
    at = table.schema.get_field_index(column)
    table = table.set_column(at, column, values) if at >= 0 else table.append_column(column, values)
    first, second, third = rows(table, tmp_path)
    assert (first.error, third.error) == (None, None)
    if words is None or kept is None:
        assert second.error is None
        return
    with pytest.raises(Exception, match=words):
        raise second.error or AssertionError
    assert second.line == 2
    assert kept in second.original
    assert b'"event_id":"e1"' in second.original


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["item_id", "item_id"])
    with pytest.raises(SourceError, match=r"f\.parquet: column item_id is there twice; rename one"):
        rows(twice, tmp_path)


def test_an_unknown_zone_of_a_time_of_the_contract_is_named(tmp_path: Path) -> None:
    times = pa.array([0, 0], pa.timestamp("us", tz="US/Mars"))
    table = events().set_column(2, "event_time", times)
    with pytest.raises(SourceError, match="column event_time has the time zone US/Mars, unknown here"):
        rows(table, tmp_path)


def test_a_damaged_row_group_costs_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    text = [f"{n:04d}" * 5 for n in range(300)]
    pq.write_table(
        pa.table({"a": text}), path, row_group_size=100, compression="snappy", use_dictionary=False
    )
    meta = pq.read_metadata(path).row_group(1).column(0)
    content = bytearray(path.read_bytes())
    for at in range(meta.data_page_offset, meta.data_page_offset + meta.total_compressed_size):
        content[at] ^= 0xFF
    path.write_bytes(bytes(content))
    found = list(ParquetTable(InputFile(path)).rows())
    good = [row for row in found if row.error is None]
    assert [dict(row.fields)["a"] for row in good] == text[:100] + text[200:]  # type: ignore[arg-type]
    assert [row.line for row in good] == [*range(1, 101), *range(201, 301)]
    (bad,) = (row for row in found if row.error is not None)
    assert bad.error is not None
    assert (bad.error.code, bad.line) == ("unreadable_rows", 101)
    assert "rows 101 to 200 cannot be read" in str(bad.error)


def test_a_packed_parquet_file_is_refused_by_name(tmp_path: Path) -> None:
    import gzip

    pq.write_table(events(), tmp_path / "f.parquet")
    (tmp_path / "f.parquet.gz").write_bytes(gzip.compress((tmp_path / "f.parquet").read_bytes()))
    with pytest.raises(SourceError, match="a Parquet file inside a packed file; unpack it"):
        list(HeadraceSource().rows(InputFile(tmp_path / "f.parquet.gz"), None))


def test_a_row_over_the_limit_costs_itself(tmp_path: Path) -> None:
    pq.write_table(events(query=["x", "y" * 5000]), tmp_path / "f.parquet")
    good, long = HeadraceSource().rows(InputFile(tmp_path / "f.parquet", Limits(row_bytes=2000)), None)
    assert good.error is None
    assert long.error is not None
    assert (long.error.code, long.line) == ("row_too_long", 2)
    assert "HEADRACE_INGEST_ROW_BYTES" in str(long.error)
