"""The contract's own files: JSON lines, CSV and Parquet give the same records."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from feature_repo.contract.validation import (
    Contract,
    Event,
    Item,
    Kind,
    Record,
    ShownItem,
    User,
    encode,
    to_arrow,
)
from feature_repo.errors import SourceError
from feature_repo.settings import Settings
from streaming.sources import InputFile
from streaming.sources.formats.headrace import HeadraceSource
from tests.support.events_strategy import World, worlds

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


def read(path: Path, kind: Kind | None = None) -> list[Record]:
    source, contract = HeadraceSource(), Contract(Settings(), lambda: NOW)
    rows = list(source.rows(InputFile(path), kind))
    assert [r.error for r in rows] == [None] * len(rows)
    return [contract.parse(source.convert(r.raw, kind), kind) for r in rows]


@settings(deadline=None, max_examples=15)
@given(worlds())
def test_what_is_written_as_lines_or_parquet_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, world: World
) -> None:
    folder = tmp_path_factory.mktemp("files")
    asked = {None: "socks", True: "socks", False: ""}  # of who denies consent it is not kept
    events = [replace(e, query=asked[e.consent]) if e.event_type == "search" else e for e in world.events]
    mixed: list[Any] = [*world.items, *events, *world.users]
    (folder / "all.jsonl").write_bytes(b"".join(encode(r) + b"\n" for r in mixed) or b"\n")
    assert read(folder / "all.jsonl") == mixed
    if events:
        pq.write_table(to_arrow("event", events, NOW), folder / "events.parquet")
        assert read(folder / "events.parquet") == events


def test_parquet_of_other_tools(tmp_path: Path) -> None:
    table = pa.table(
        {
            "event_id": pa.array(["e1", "e2"]).dictionary_encode(),
            "event_type": ["impression", "click"],
            "event_time": pa.array([1717239600000, 1717239601000], pa.int64()),
            "session_id": pa.array(["s", "s"], pa.large_string()),
            "items": [["a", "b"], None],
            "item_id": [None, "a"],
            "consent": [True, None],
            "channel": ["mail", None],
        }
    )
    pq.write_table(table, tmp_path / "e.parquet")
    first, second = read(tmp_path / "e.parquet")
    assert isinstance(first, Event)
    assert isinstance(second, Event)
    assert first.items == (ShownItem("a"), ShownItem("b"))
    assert (first.consent, first.properties) == (True, {"channel": "mail"})
    assert (second.item_id, second.consent, second.properties) == ("a", None, {})
    assert second.event_time == datetime(2024, 6, 1, 11, 0, 1, tzinfo=UTC)


def test_attributes_of_parquet_as_struct_map_or_text(tmp_path: Path) -> None:
    struct = pa.table({"item_id": ["i"], "attributes": [{"a": "x", "n": 1.5, "none": None}]})
    mapped = pa.table(
        {"item_id": ["i"], "attributes": pa.array([[("a", "x")]], pa.map_(pa.string(), pa.string()))}
    )
    text = pa.table({"item_id": ["i"], "attributes": ['{"a": ["x", "y"]}']})
    for table, attributes in (
        (struct, {"a": "x", "n": 1.5}),
        (mapped, {"a": "x"}),
        (text, {"a": ["x", "y"]}),
    ):
        pq.write_table(table, tmp_path / "i.parquet")
        assert read(tmp_path / "i.parquet") == [Item(item_id="i", attributes=attributes)]


def test_csv_cells_are_typed(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(
        "event_id,event_type,event_time,session_id,item_id,items,position,consent,properties,channel\n"
        'e1,click,1717239600000,s,i,,3,TRUE,"{""a"": ""b""}",mail\n'
        "e2,impression,2024-06-01T11:00:00Z,s,,i|j,,,,\n"
        'e3,impression,2024-06-01T11:00:00Z,s,,"[{""item_id"": ""i"", ""score"": 0.5}]",,false,,\n'
    )
    one, two, three = read(tmp_path / "e.csv")
    assert isinstance(one, Event)
    assert (one.position, one.consent, one.properties) == (3, True, {"a": "b", "channel": "mail"})
    assert isinstance(two, Event)
    assert two.items == (ShownItem("i"), ShownItem("j"))
    assert isinstance(three, Event)
    assert (three.items, three.consent) == ((ShownItem("i", 0.5),), False)


def test_further_columns_of_items_and_users_are_attributes(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text(
        "item_id,title,categories,price,color,weight\ni,A thing,a|b,9.5,red,1.25\nj,,,,,\n"
    )
    assert read(tmp_path / "i.csv") == [
        Item(
            item_id="i",
            title="A thing",
            categories=("a", "b"),
            price=9.5,
            attributes={"color": "red", "weight": 1.25},
        ),
        Item(item_id="j"),
    ]
    (tmp_path / "u.csv").write_text("user_id,segment\nu,gold\n")
    assert read(tmp_path / "u.csv", "user") == [User(user_id="u", attributes={"segment": "gold"})]


@pytest.mark.parametrize(
    ("columns", "kind", "words"),
    [
        (
            ["event_id", "event_type", "session_id"],
            None,
            "missing column event_time; a file of events needs event_id",
        ),
        (["a", "b"], None, r"columns a, b are neither events .*items .*nor users.*--suggest"),
        (["item_id"], "user", "missing column user_id; a file of users needs user_id"),
    ],
)
def test_a_missing_column_is_named(tmp_path: Path, columns: list[str], kind: Kind | None, words: str) -> None:
    pq.write_table(pa.table({c: ["x"] for c in columns}), tmp_path / "f.parquet")
    (tmp_path / "f.csv").write_text(",".join(columns) + "\n" + ",".join("x" for _ in columns) + "\n")
    for name in ("f.parquet", "f.csv"):
        with pytest.raises(SourceError, match=rf"{name}: {words}"):
            read(tmp_path / name, kind)


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("event_id", [1], "column event_id has type int64; it should be text"),
        (
            "event_time",
            [1.5],
            "column event_time has type double; it should be a timestamp with zone, text or epoch",
        ),
        (
            "event_time",
            pa.array([datetime(2024, 6, 1, tzinfo=UTC)]).cast(pa.timestamp("us")),
            r"column event_time has type timestamp\[us\]; it should be a timestamp with zone",
        ),
        ("position", ["x"], "column position has type string; it should be an integer"),
        ("consent", ["x"], "column consent has type string; it should be a boolean"),
        ("items", [1], "column items has type int64; it should be a list of item ids"),
        ("properties", [1], "column properties has type int64; it should be a map of text, or JSON text"),
    ],
)
def test_a_mistyped_column_is_named_with_its_type(
    tmp_path: Path, column: str, values: Any, words: str
) -> None:
    good: dict[str, Any] = {
        "event_id": ["e"],
        "event_type": ["click"],
        "event_time": ["2024-06-01T11:00:00Z"],
        "session_id": ["s"],
        "item_id": ["i"],
    }
    pq.write_table(pa.table({**good, column: values}), tmp_path / "f.parquet")
    with pytest.raises(SourceError, match=rf"f\.parquet: {words}"):
        read(tmp_path / "f.parquet")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_timestamp_of_any_unit_is_read(tmp_path: Path, unit: Any) -> None:
    moment = datetime(2024, 6, 1, 11, tzinfo=UTC)
    columns = {name: [name] for name in ("event_id", "session_id", "item_id")}
    times = pa.array([moment], pa.timestamp(unit, tz="Europe/Berlin"))
    pq.write_table(
        pa.table({**columns, "event_type": ["click"], "event_time": times}), tmp_path / "f.parquet"
    )
    (event,) = read(tmp_path / "f.parquet")
    assert isinstance(event, Event)
    assert event.event_time == moment
    assert type(event.event_time) is datetime


@pytest.mark.parametrize("content", [b"", b"PAR1 no", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.parquet").write_bytes(content)
    with pytest.raises(
        SourceError, match=r"f\.parquet: (not a whole Parquet file .*; write it again|empty file)"
    ):
        read(tmp_path / "f.parquet")


def test_progress_reaches_the_size(tmp_path: Path) -> None:
    table = pa.table({"item_id": [f"i{n}" for n in range(50_000)]})
    pq.write_table(table, tmp_path / "i.parquet")
    file = InputFile(tmp_path / "i.parquet")
    seen = [file.done for _ in HeadraceSource().rows(file, None)]
    assert seen == sorted(seen)
    assert 0 < seen[-1] <= file.size == file.done


def test_json_lines_pass_as_they_are(tmp_path: Path) -> None:
    line = json.dumps({"record": "user", "user_id": "u"}).encode()
    (tmp_path / "f.ndjson").write_bytes(b"\n" + line + b"\r\n")
    (row,) = HeadraceSource().rows(InputFile(tmp_path / "f.ndjson"), None)
    assert (row.line, row.raw.strip()) == (2, line)  # type: ignore[union-attr]
