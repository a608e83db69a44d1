"""Damaged files of every format: an error of ours or none, and the rows around the damage are kept."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_repo.contract.validation import Contract, Record, encode
from feature_repo.errors import ContractError, SourceError
from feature_repo.settings import Settings
from streaming.sources import InputFile, open_source
from streaming.sources.formats.headrace import read_cells
from tests.unit.streaming.sources.test_files import PACKINGS

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
ITEMS: list[dict[str, Any]] = [
    {"item_id": f"i{n}", "title": "Schuh é", "weight": n, "tags": ["a", "b"], "cost": n / 2}
    for n in range(12)
]
LINES = [json.dumps({"record": "item", **item}, ensure_ascii=False).encode() for item in ITEMS]
CSV = "item_id,title,weight,tags\n" + "".join(f'i{n},"Schuh, é",{n},a|b\n' for n in range(12))
METARANK = [
    {"event": "item", "id": f"m{n}", "item": f"i{n}", "timestamp": "1717239600000", "fields": []}
    for n in range(9)
]
DESKDROP = "timestamp,eventType,contentId,personId,sessionId\n" + "1465413032,VIEW,1,2,3\n" * 9
RATINGS = "userId,movieId,rating,timestamp\n" + "".join(f"{n},1,4.0,1465413032\n" for n in range(9))


def _parquet() -> bytes:
    out = io.BytesIO()
    table = pa.Table.from_pylist([{**item, "seen": NOW} for item in ITEMS])
    pq.write_table(table, out, row_group_size=4)
    return out.getvalue()


FILES: dict[str, tuple[str, bytes]] = {
    "lines": ("headrace", b"\n".join(LINES)),
    "array": ("headrace", json.dumps(ITEMS).encode()),
    "documents": ("headrace", "\n".join(json.dumps(i, indent=1) for i in ITEMS).encode()),
    "csv": ("headrace", CSV.encode()),
    "semicolon": ("headrace", CSV.replace(",", ";").encode()),
    "utf16": ("headrace", CSV.encode("utf-16")),
    "parquet": ("headrace", _parquet()),
    **{name: ("headrace", pack(b"\n".join(LINES))) for name, pack in PACKINGS.items()},
    "metarank": ("metarank", b"\n".join(json.dumps(e).encode() for e in METARANK)),
    "deskdrop": ("deskdrop", DESKDROP.encode()),
    "movielens": ("movielens", RATINGS.encode()),
}


def read(path: Path, fmt: str) -> tuple[list[Record], list[ContractError], SourceError | None]:
    """All that is read of a file; any other exception is a failure of the test."""
    settings = Settings()
    source = open_source(fmt, settings.weights)
    known = {**settings.event_weights, **source.event_types}
    contract = Contract(settings.model_copy(update={"event_weights": known}), lambda: NOW)
    records, errors, stop = [], [], None
    try:
        for row in source.rows(InputFile(path), None):
            try:
                if row.error is not None:
                    raise row.error
                record = contract.parse(source.convert(row.raw, None))
                encode(record)
                records.append(record)
            except ContractError as error:
                errors.append(error)
            assert isinstance(row.original, bytes)
            if row.error is None and row.layout is not None and row.layout.columns:
                assert read_cells(row.original, row.layout) == row.raw
    except SourceError as error:
        stop = error
    return records, errors, stop


def test_the_files_are_whole_before_they_are_damaged(tmp_path: Path) -> None:
    for name, (fmt, content) in FILES.items():
        (tmp_path / name).write_bytes(content)
        records, errors, stop = read(tmp_path / name, fmt)
        assert (len(records) in (9, 12), errors, stop) == (True, [], None), name


PIECES = st.sampled_from(
    [b"", b"\0", b"\n", b"\r", b'"', b",", b"{", b"]", b"\xff", b"\xed\xa0\xbd", b"9" * 30]
) | (st.binary(max_size=4))


@pytest.mark.parametrize("name", FILES)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    damage=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 6), PIECES), min_size=1, max_size=4),
    cut=st.none() | st.integers(0, 3000),
)
def test_damage_anywhere_ends_in_errors_of_ours(
    tmp_path_factory: pytest.TempPathFactory, name: str, damage: list[tuple[int, int, bytes]], cut: int | None
) -> None:
    fmt, content = FILES[name]
    for at, length, piece in damage:
        at %= len(content)  # noqa: PLW2901
        content = content[:at] + piece + content[at + length :]
    path = tmp_path_factory.mktemp("damage") / "f"
    path.write_bytes(content if cut is None else content[: cut % len(content)])
    read(path, fmt)


HEADER = b"item_id,title,weight,tags"
JOINS: dict[str, Callable[[list[bytes]], bytes]] = {
    "lines": b"\n".join,
    "array": lambda rows: b"[" + b",\n".join(rows) + b"]",
    "csv": lambda rows: b"\n".join([HEADER, *rows]),
    "utf16": lambda rows: b"\n".join([HEADER, *rows]).decode().encode("utf-16"),
}


@pytest.mark.parametrize("name", JOINS)
@settings(deadline=None, max_examples=40)
@given(
    row=st.integers(1, 11),
    at=st.integers(1, 5),
    piece=st.sampled_from([b"\0", b",x", b"\\", b"~", "é".encode()]),
)
def test_damage_within_a_row_costs_no_other_row(
    tmp_path_factory: pytest.TempPathFactory, name: str, row: int, at: int, piece: bytes
) -> None:
    rows = CSV.encode().splitlines()[1:] if name in ("csv", "utf16") else LINES
    rows = list(rows)
    rows[row] = rows[row][:at] + piece + rows[row][at:]
    path = tmp_path_factory.mktemp("damage") / "f.json"
    path.write_bytes(JOINS[name](rows))
    records, errors, stop = read(path, "headrace")
    assert stop is None
    assert len(records) + len(errors) >= len(rows)
    found = {record.item_id for record in records if hasattr(record, "item_id")}
    assert found >= {f"i{n}" for n in range(12) if n != row}
