"""The same table gives the same records whatever the file type, and each kind is declared or unmistakable."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contract.columns import to_arrow
from feature_repo.contract.validation import Contract, Item, Kind, Record
from feature_repo.errors import SourceError
from feature_repo.settings import Settings
from streaming.sources import InputFile
from streaming.sources.formats.headrace import HeadraceSource

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


def read(path: Path, kind: Kind | None = None) -> list[Record]:
    source, contract = HeadraceSource(), Contract(Settings(), lambda: NOW)
    rows = list(source.rows(InputFile(path), kind))
    assert [r.error for r in rows] == [None] * len(rows)
    return [contract.parse(source.convert(r.raw, kind), kind) for r in rows]


CSV = (
    "item_id,title,brand,weight_g,cost,stock,tags,sku,day,seen,price\n"
    "i1,Shoe,Acme,240,1.50,true,light|trail,0010,2024-05-01,2024-05-01T10:00:00Z,9.90\n"
    "i2,Sock,Écho,17,12.00,false,warm,10,2024-05-02,2024-05-02T10:00:00.250000Z,3\n"
    "i3,Hat,,,,,,,,,\n"
)
TYPED: list[dict[str, Any]] = [
    {
        "item_id": "i1", "title": "Shoe", "brand": "Acme", "weight_g": 240, "cost": Decimal("1.50"),
        "stock": True, "tags": ["light", "trail"], "sku": "0010", "day": date(2024, 5, 1),
        "seen": datetime(2024, 5, 1, 10, tzinfo=UTC), "price": 9.9,
    },
    {
        "item_id": "i2", "title": "Sock", "brand": "Écho", "weight_g": 17, "cost": Decimal("12.00"),
        "stock": False, "tags": ["warm"], "sku": "10", "day": date(2024, 5, 2),
        "seen": datetime(2024, 5, 2, 10, 0, 0, 250_000, tzinfo=UTC), "price": 3.0,
    },
    {"item_id": "i3", "title": "Hat"},
]  # fmt: skip


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return float(value) if isinstance(value, Decimal) else str(value)


def tables(folder: Path) -> dict[str, Path]:
    paths = {
        name: folder / f"t.{name}" for name in ("csv", "tsv", "semi", "utf16", "parquet", "jsonl", "json")
    }
    paths["csv"].write_text(CSV)
    paths["tsv"].write_text(CSV.replace(",", "\t"))
    paths["semi"].write_text(
        CSV.replace(",", ";").replace("9.90", "9,90").replace("1.50", "1,50").replace("12.00", "12,00")
    )
    paths["utf16"].write_bytes(CSV.replace("\n", "\r\n").encode("utf-16"))
    pq.write_table(pa.Table.from_pylist(TYPED), paths["parquet"])
    paths["jsonl"].write_text(
        "\n".join(json.dumps({"record": "item", **row}, default=_json) for row in TYPED)
    )
    paths["json"].write_text(json.dumps(TYPED, default=_json, indent=1))
    return paths


def test_the_same_table_gives_the_same_attributes_whatever_the_file_type(tmp_path: Path) -> None:
    first, second, third = (
        {
            "brand": "Acme", "weight_g": 240.0, "cost": 1.5, "stock": "true", "tags": ["light", "trail"],
            "sku": "0010", "day": "2024-05-01", "seen": "2024-05-01T10:00:00Z",
        },
        {
            "brand": "Écho", "weight_g": 17.0, "cost": 12.0, "stock": "false", "tags": ["warm"],
            "sku": "10", "day": "2024-05-02", "seen": "2024-05-02T10:00:00.250000Z",
        },
        {},
    )  # fmt: skip
    expected: list[Record] = [
        Item(item_id="i1", title="Shoe", price=9.9, attributes=first),
        Item(item_id="i2", title="Sock", price=3.0, attributes=second),
        Item(item_id="i3", title="Hat", attributes=third),
    ]
    stored = to_arrow("item", expected, NOW)  # in the lake one text is a list of one
    for name, path in tables(tmp_path).items():
        assert to_arrow("item", read(path), NOW).to_pylist() == stored.to_pylist(), name


def test_text_that_looks_like_a_number_stays_text_in_every_column(tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text(
        "user_id,zip,segment,last_name,code\nu1,02138,01,Nan,1_000\nu2,10001,1,Infinity,12E5\n"
    )
    assert [dict(r.attributes) for r in read(tmp_path / "u.csv")] == [  # type: ignore[union-attr]
        {"zip": "02138", "segment": "01", "last_name": "Nan", "code": "1_000"},
        {"zip": "10001", "segment": "1", "last_name": "Infinity", "code": "12E5"},
    ]


@pytest.mark.parametrize("price", ["1_000", "Nan", "inf", "1,5", "٣", "0x10"])
def test_a_price_that_is_no_number_is_rejected_and_not_guessed(tmp_path: Path, price: str) -> None:
    (tmp_path / "i.csv").write_text(f'item_id,title,price\ni,x,"{price}"\n')
    (row,) = HeadraceSource().rows(InputFile(tmp_path / "i.csv"), None)
    assert dict(row.raw)["price"] == price  # type: ignore[arg-type]


def test_free_text_with_bars_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("item_id,title,note,tags\ni,x,Acme | since 1900,[a|b]\n")
    (item,) = read(tmp_path / "i.csv")
    assert isinstance(item, Item)
    assert item.attributes == {"note": "Acme | since 1900", "tags": "[a|b]"}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["event_id", "event_type", "event_time", "session_id", "item_id"], "event"),
        (["item_id", "title", "brand"], "item"),
        (["item_id", "sku", "style"], "item"),
        (["user_id", "zip", "segment"], "user"),
        (["user_id", "consent"], "user"),
        (["item_id", "action", "ts"], None),
        (["item_id", "user_id", "rating"], None),
        (["item_id", "price", "session"], None),
        (["item_id", "timestamp"], None),
        (["user_id", "event_name"], None),
        (["user_id", "product", "qty"], None),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_the_kind_is_unmistakable_or_asked_for(
    tmp_path: Path, columns: list[str], expected: str | None, suffix: str
) -> None:
    path = tmp_path / f"f{suffix}"
    table = {name: [f"{name}1", f"{name}2"] for name in columns}
    if suffix == ".csv":
        path.write_text("\n".join(",".join(cells) for cells in [columns, *zip(*table.values(), strict=True)]))
    elif suffix == ".parquet":
        pq.write_table(pa.table(table).drop_columns([c for c in columns if c == "consent"]), path)
    else:
        path.write_text("\n".join(map(json.dumps, pa.table(table).to_pylist())))
    if expected is None:
        with pytest.raises(SourceError, match=r"(items|users) or events\? \(column .*\); say so: --kind"):
            list(HeadraceSource().rows(InputFile(path), None))
        return
    kinds = {dict(row.raw)["record"] for row in HeadraceSource().rows(InputFile(path), None)}  # type: ignore[arg-type]
    assert kinds == {expected}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_key_that_repeats_is_not_taken_for_that_of_a_catalogue(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"f{suffix}"
    rows = [{"item_id": f"i{n % 7}", "channel": "web"} for n in range(50)]
    if suffix == ".csv":
        path.write_text("item_id,channel\n" + "".join(",".join(r.values()) + "\n" for r in rows))
    elif suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(SourceError, match=r"items or events\? \(item_id repeats\); say so: --kind items"):
        list(HeadraceSource().rows(InputFile(path), None))
    assert len(list(HeadraceSource().rows(InputFile(path), "item"))) == 50


def test_rows_may_say_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("record,item_id,title\nitem,i,x\n")
    assert read(tmp_path / "i.csv") == [Item(item_id="i", title="x")]
