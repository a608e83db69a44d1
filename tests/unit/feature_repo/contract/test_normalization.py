"""One spelling for all: stable under case and composition, and the same in batch, stream and statistics."""

from __future__ import annotations

import sys
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalogue import facts_of, text_of, texts_of
from feature_repo.contract.columns import FACTS, with_facts
from feature_repo.contract.normalization import normalized
from feature_repo.contract.validation import Item, User, to_arrow
from feature_repo.expressions.items import attribute_keys, attribute_type, numerics
from feature_repo.group import LakeTables
from feature_repo.lake.lake import Lake, duckdb_backend, read_tables

NOW = datetime(2024, 6, 1, tzinfo=UTC)
LETTERS = st.text(st.sampled_from("aAßẞİıIiΣσςΆάχΧéÉñ\u0301\u0307\u0345ﬁǅ:. ") | st.characters(codec="utf-8"))
CASED = [chr(c) for c in range(sys.maxunicode + 1) if chr(c) != chr(c).lower() or chr(c) != chr(c).upper()]


def test_every_letter_is_equal_in_upper_and_lower_case() -> None:
    alone = {c for c in CASED if len({normalized(c), normalized(c.lower()), normalized(c.upper())}) > 1}
    assert alone == {"ı"}  # its capital is I, and that of i as well


@given(LETTERS)
def test_it_is_stable_and_blind_to_case_and_composition(text: str) -> None:
    found = normalized(text)
    assert normalized(found) == found
    for form in ("NFC", "NFD"):
        assert normalized(unicodedata.normalize(form, text)) == found
    for changed in (text.lower(), text.casefold(), *([text.upper()] if "ı" not in text else [])):
        assert normalized(changed) == found


@given(st.text(st.characters(codec="ascii")))
def test_ascii_takes_the_short_way_to_the_same(text: str) -> None:
    assert normalized(text) == unicodedata.normalize("NFC", text.casefold())


@given(LETTERS, LETTERS)
def test_a_key_is_normalized_as_a_whole_or_in_its_parts(name: str, value: str) -> None:
    assert normalized(f"{name}:{value}") == f"{normalized(name)}:{normalized(value)}"


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("ΡΟΛΟΓΙΑ ΧΕΙΡΟΣ", "ρολογια χειροσ"),
        ("İSTANBUL", "i\u0307stanbul"),
        ("Cafe\u0301", "café"),
        ("Straße", "strasse"),
    ],
)
def test_the_keys_that_engines_disagree_on(written: str, key: str) -> None:
    assert normalized(written) == key


TEXT = LETTERS.filter(lambda text: len(text.encode()) <= 256)
ATTRIBUTES = st.dictionaries(
    TEXT, TEXT | st.lists(TEXT, max_size=3) | st.floats(allow_nan=False, allow_infinity=False), max_size=4
)
ITEMS = st.lists(
    st.builds(
        Item,
        item_id=st.uuids().map(str),
        categories=st.lists(TEXT.filter(bool), max_size=3).map(tuple),
        price=st.none() | st.floats(0, 1e9),
        created_at=st.none() | st.just(NOW),
        attributes=ATTRIBUTES,
    ),
    max_size=4,
    unique_by=lambda item: item.item_id,
)
USERS = st.lists(
    st.builds(User, user_id=st.uuids().map(str), attributes=ATTRIBUTES),
    max_size=3,
    unique_by=lambda user: user.user_id,
)


def write(lake: Lake, kind: Any, records: list[Any], version: str) -> None:
    """A file of this version, of one that knew no facts, or of both merged by the latter."""
    lake.folder(kind).mkdir(parents=True)
    table = to_arrow(kind, records, NOW)
    if version == "before":
        table = table.drop_columns([FACTS])
    elif version == "merged" and len(table):
        nulls = pa.nulls(1, table.schema.field(FACTS).type)
        column = pa.chunked_array([nulls, *table[FACTS].slice(1).chunks], nulls.type)
        table = table.set_column(table.column_names.index(FACTS), FACTS, column)
    pq.write_table(table, lake.folder(kind) / "part-00000000.parquet")


def read(lake: Lake, folder: Path) -> tuple[set[Any], set[Any], dict[str, dict[str, str]], set[str]]:
    with duckdb_backend("256MB", 1, folder / "spill") as con:
        tables: LakeTables = read_tables(con, lake, NOW + timedelta(days=1), timedelta(days=9))
        keys = con.to_pyarrow(attribute_keys(tables.items))
        kinds = con.to_pyarrow(attribute_type(attribute_keys(tables.items).attr_key).name("kind"))
        numbers = con.to_pyarrow(numerics(tables.items))
        users = con.to_pyarrow(tables.users)
    rows = [tuple(row.values()) for row in keys.to_pylist()]
    assert len(rows) == len(set(rows)), "each once"
    texts = {
        row["user_id"]: {t["name"]: t["value"] for t in row[FACTS]["texts"]} for row in users.to_pylist()
    }
    return (
        set(rows),
        {tuple(row.values()) for row in numbers.to_pylist()},
        texts,
        set(kinds.to_pylist()),
    )


@pytest.mark.parametrize("version", ["this", "before", "merged"])
@settings(deadline=None, max_examples=25)
@given(items=ITEMS, users=USERS)
def test_batch_has_the_keys_of_the_stream_whatever_version_wrote_the_lake(
    tmp_path_factory: pytest.TempPathFactory, version: str, items: list[Item], users: list[User]
) -> None:
    folder = tmp_path_factory.mktemp("lake")
    lake = Lake(folder)
    write(lake, "item", items, version)
    write(lake, "user", users, version)
    keys, numbers, texts, kinds = read(lake, folder)
    facts = [facts_of(item) for item in items]
    assert keys == {(f.item_id, key) for f in facts for key in f.attr_keys}
    assert kinds == {key.partition(":")[0] for _, key in keys}
    assert numbers == {(f.item_id, name, value) for f in facts for name, value in f.numerics.items()}
    assert texts == {user.user_id: texts_of(user) for user in users}


def test_what_an_older_lake_holds_is_no_reason_to_stop() -> None:
    """Nothing the contract refuses now, nor a number no door let in, keeps a row from its facts."""
    attributes = [
        {"name": "a", "values": [None, "X"], "number": None},
        {"name": "b", "values": None, "number": float("inf")},
        {"name": "c", "values": None, "number": float("nan")},
        {"name": "d", "values": None, "number": None},
    ]
    schema = to_arrow("user", [], NOW).schema
    row = {"user_id": "", "attributes": attributes, "ingested_at": NOW}
    table = pa.Table.from_pylist([row, {"user_id": "u", "ingested_at": NOW}], schema=schema)
    named = [{"name": "a", "value": "X"}]
    assert with_facts("user", table)[FACTS].to_pylist() == [{"texts": named}, {"texts": []}]
    assert with_facts("event", table) is table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Gold", "Gold"), ("Cafe\u0301", "Café"), (["x", "y"], "x"), ([], ""), ("", ""), (3, "3"), (3.0, "3"),
        (-0.0, "0"), (2.5, "2.5"), (2.0**53, "9007199254740992"), (1e19, "1e+19"), (1e-7, "1e-07"),
        (float("inf"), ""), (float("nan"), ""),
    ],
)  # fmt: skip
def test_a_declared_value_names_a_segment(value: Any, text: str) -> None:
    assert text_of(value) == text


def test_an_attribute_is_found_in_any_case_and_the_later_wins() -> None:
    user = User(user_id="u", attributes={"Segment": "a", "SEGMENT": "b", "segment": "", "Größe": 3})
    assert texts_of(user) == {"segment": "b", "grösse": "3"}
