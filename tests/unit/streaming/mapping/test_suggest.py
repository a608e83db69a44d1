"""A mapping proposed from a file: it names the right columns, says what it assumes, and works when saved."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.errors import SourceError
from feature_repo.settings import Settings
from streaming.ingest.files import ingest
from streaming.mapping.profile import profile
from streaming.mapping.propose import propose
from streaming.mapping.reading import parse_mapping
from streaming.mapping.saved import format_of
from streaming.mapping.trial import proposed, suggest, try_mapping
from streaming.sources import InputFile

SHOP = [
    {
        "Order Time": f"2024-05-{1 + n % 20:02d} 10:{n % 60:02d}:00",
        "customer_no": f"c{n % 7}",
        "sku": f"0{n % 11}",
        "action": ("viewed", "basket", "bought", "wishlist_add", "page_scroll")[n % 5],
        "unit_price": f"{9 + n % 11}.50",
        "department": "Shoes > Boots" if n % 2 else "Lamps > Desk",
        "e-mail": f"c{n % 7}@shop.example",
        "device": ("phone", "desktop")[n % 2],
    }
    for n in range(220)
]


def delimited(rows: list[dict[str, Any]], sign: str) -> str:
    return "\n".join([sign.join(rows[0]), *(sign.join(map(str, row.values())) for row in rows)]) + "\n"


def as_file(kind: str, rows: list[dict[str, Any]], folder: Path) -> Path:
    path = folder / f"export.{kind}"
    match kind:
        case "csv":
            path.write_text(delimited(rows, ","))
        case "tsv":
            path.write_text(delimited(rows, "\t"))
        case "csv.gz":
            path.write_bytes(gzip.compress(delimited(rows, ",").encode()))
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "json":
            path.write_text(json.dumps(rows))
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "csv.gz", "jsonl", "json", "parquet"])
def test_the_proposal_works_when_saved(kind: str, tmp_path: Path, settings: Settings) -> None:
    path = as_file(kind, SHOP, tmp_path)
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(suggest(InputFile(path)))
    counts = ingest([path], format_of(str(mapping), tmp_path / "home" / "mappings"), settings)
    assert counts.quarantined == 0
    assert counts.kinds["event"].accepted + counts.kinds["event"].duplicate == 176
    assert counts.kinds["event"].accepted == 176
    assert any("44 rows (event type 'page_scroll')" in note for note in counts.notes)


def test_what_is_proposed(tmp_path: Path) -> None:
    text = suggest(InputFile(as_file("csv", SHOP, tmp_path)))
    found = parse_mapping(text, "m")
    event, item = found.sections
    assert {n: f[0].columns for n, f in event.fields.items() if f[0].columns} == {
        "event_type": ("action",),
        "event_time": ("Order Time",),
        "user_id": ("customer_no",),
        "item_id": ("sku",),
    }
    assert event.fields["session_id"][0].day_of == ("customer_no",)
    assert event.fields["event_id"][0].hash
    assert set(event.room) == {"device", "department"}  # an item is in several departments here
    assert item.fields["price"][0].columns == ("unit_price",)
    assert {n: t.name for n, t in found.event_types.items()} == {
        "viewed": "view",
        "basket": "add_to_cart",
        "bought": "purchase",
        "wishlist_add": "wishlist",
        "page_scroll": None,
    }
    for said in (
        "Order Time has no time zone: UTC is assumed",
        "left out as personal data: e-mail",
        "no unique id",
        "no session: one user's day (UTC) is taken as a session",
    ):
        assert f"# check: {said}" in text


def test_all_problems_at_once(tmp_path: Path, settings: Settings) -> None:
    rows = [dict(row) for row in SHOP]
    rows[3]["Order Time"] = "soon"
    rows[5]["sku"] = ""
    rows[7]["Order Time"] = "1970-01-01 00:00:00"
    rows[11]["sku"] = "x" * 300
    path = as_file("csv", rows, tmp_path)
    trial = try_mapping(proposed(suggest(InputFile(path))), InputFile(path), settings)
    found = {key: [line for line, _ in p.examples] for key, p in trial.problems.items()}
    assert found == {
        ("bad_value", "event_time"): [5],
        ("missing_field", "item_id"): [7],
        ("time_out_of_range", "event_time"): [9],
        ("bad_value", "item_id"): [13, 13],  # as an event and as an item
    }
    assert len(trial.records["event"]) == 10


def test_nested_json_and_lists(tmp_path: Path, settings: Settings) -> None:
    rows = [
        {
            "sid": f"s{n}",
            "who": {"uid": f"u{n % 3}"},
            "events": [{"aid": n, "ts": 1714557600000 + n, "type": "clicks"}] * 2,
        }
        for n in range(30)
    ]
    path = as_file("jsonl", rows, tmp_path)
    text = suggest(InputFile(path))
    trial = try_mapping(proposed(text), InputFile(path), settings)
    assert 'explode = "events"' in text
    assert (trial.problems, trial.kinds, trial.repeated) == ({}, {"event": 60}, 30)


@pytest.mark.parametrize(
    ("rows", "section", "lines"),
    [
        (
            [{"sku": f"a{n}", "name": f"Lamp {n}", "genres": "a|b"} for n in range(9)],
            "item",
            ['title = "name"', 'categories = { column = "genres", split = "|" }'],
        ),
        ([{"uid": n, "plan": "gold"} for n in range(9)], "user", ['attributes = ["plan"]']),
    ],
)
def test_items_and_users(rows: list[dict[str, Any]], section: str, lines: list[str], tmp_path: Path) -> None:
    text = suggest(InputFile(as_file("csv", rows, tmp_path)))
    assert f"[{section}]" in text
    assert "[event]" not in text
    for line in lines:
        assert line in text


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ([1714557600 + n for n in range(9)], "epoch_s"),
        ([1714557600000 + n for n in range(9)], "epoch_ms"),
        ([f"{n + 13}.05.2024 10:00" for n in range(9)], "%d.%m.%Y %H:%M"),
        ([f"05/{n + 13}/2024 10:00" for n in range(9)], "%m/%d/%Y %H:%M"),
        ([f"2024-05-{n + 13}T10:00:00+02:00" for n in range(9)], "iso"),
    ],
)
def test_formats_of_times(values: list[Any], form: str) -> None:
    rows = [{"ts": v, "uid": f"u{n % 2}", "sku": "a"} for n, v in enumerate(values)]
    found = propose(profile(rows), rows)
    assert found.sections["event"]["event_time"]["format"] == form


def test_days_and_months_that_may_be_exchanged_are_flagged() -> None:
    rows = [{"ts": f"0{n}/05/2024", "uid": "u", "sku": "a"} for n in range(1, 9)]
    assert any("is day or month first?" in note for note in propose(profile(rows), rows).notes)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_few_bad_times_do_not_turn_events_into_items(kind: str, tmp_path: Path, settings: Settings) -> None:
    rows = [
        {"when": when, "action": "view", "visitor": f"v{n}", "product": f"p{n % 2}"}
        for n, when in enumerate(
            ["2024-05-01 10:00:00", "2024-05-01 10:01:00", "soon", "2024-05-01 10:02:00"]
        )
    ]
    path = as_file(kind, rows, tmp_path)
    saved = tmp_path / "mapping.toml"
    saved.write_text(suggest(InputFile(path)))
    assert 'event_time = { column = "when", format = "iso", zone = "UTC" }' in saved.read_text()
    counts = ingest([path], format_of(str(saved), tmp_path / "home" / "mappings"), settings)
    assert (counts.kinds["event"].accepted, counts.quarantined) == (3, 1)


@pytest.mark.parametrize(
    "values",
    [["41", "42", "43", "M"], ["2024-05-01", "soon", "later", "never"], [41, 42, "2024-05-01", "soon"]],
)
def test_a_column_with_few_times_is_not_a_time(values: list[Any]) -> None:
    assert profile([{"t": value} for value in values]).columns["t"].time is None


def test_an_order_total_is_not_an_item_price() -> None:
    rows = [{"ts": 1714557600 + n, "uid": "u", "sku": f"a{n % 5}", "price": n} for n in range(50)]
    found = propose(profile(rows), rows)
    assert "item" not in found.sections
    assert "price" in found.sections["event"]["properties"]


def test_a_file_without_header_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "clicks.dat"
    path.write_text("1,2014-04-07T10:51:09.277Z,214536502,0\n2,2014-04-07T10:51:10.277Z,214536503,0\n")
    with pytest.raises(SourceError, match=r"the first line is a row .* see --map yoochoose"):
        suggest(InputFile(path))


def test_a_file_of_nothing_known_is_refused_with_its_columns(tmp_path: Path) -> None:
    path = as_file("csv", [{"x": 1, "y": 1}] * 5, tmp_path)
    with pytest.raises(
        SourceError, match=r"no column looks like the time of an event or the id .* columns: x, y"
    ):
        suggest(InputFile(path))


def test_a_preset_is_recognized(tmp_path: Path) -> None:
    row = {"timestamp": 1433221332117, "visitorid": 2, "event": "view", "itemid": 3, "transactionid": 4}
    assert "this looks like retailrocket" in suggest(InputFile(as_file("csv", [row] * 5, tmp_path)))


@pytest.mark.parametrize("name", ['a"b', "a\\b", "ä ö", "a.b", "x\x7fy", "k = v # c"])
def test_odd_column_names_survive(name: str, tmp_path: Path, settings: Settings) -> None:
    rows = [
        {name: f"p{n % 2}", "ts": 1714557600 + n, "uid": "u", "sku": "a", "action": "view"} for n in range(9)
    ]
    path = as_file("jsonl", rows, tmp_path)
    trial = try_mapping(proposed(suggest(InputFile(path))), InputFile(path), settings)
    event = trial.records["event"][0]
    assert list(event.properties.values()) == ["p0"]  # type: ignore[union-attr]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "events"),
    [
        ("deskdrop/users_interactions.csv.zip", 72_312),
        ("ml-100k/ml-100k.inter.gz", 100_000),
        ("movielens-latest-small/ratings.csv.gz", 100_836),
    ],
)
def test_real_files(
    name: str, events: int, shared_data: Callable[[str], Path], tmp_path: Path, settings: Settings
) -> None:
    path = shared_data(name)
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(suggest(InputFile(path)))
    counts = ingest([path], format_of(str(mapping), tmp_path / "home" / "mappings"), settings)
    assert (counts.read, counts.quarantined) == (events, 0)
