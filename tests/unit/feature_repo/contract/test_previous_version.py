"""Readers accept the version before: for each optional field, the contract as it was before that field.

No version but the first was ever published, so the one before is made up here: the current one less a field.
"""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from feature_repo.contract.evolution import compare
from feature_repo.contract.validation import RECORD_TYPES, Contract, arrow_schema, decode, encode, json_schema
from feature_repo.groups import batch_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Lake, duckdb_backend, read_tables
from feature_repo.settings import Settings
from orchestration.builds.build import build_group
from quality.checks.report import check_events
from tests.support.offline import day_events, write_events, write_records

NOW = datetime(2024, 6, 1, tzinfo=UTC)
DAY = date(2024, 5, 30)
FULL: dict[str, dict[str, Any]] = {
    "event": {
        "event_id": "e", "event_type": "view", "event_time": "2024-05-30T00:00:00Z", "session_id": "s",
        "user_id": "u", "item_id": "i", "items": [{"item_id": "i", "score": 0.5}], "request_id": "r",
        "position": 3, "query": "shoes", "consent": True, "properties": {"k": "v"}, "schema_version": 1,
    },
    "item": {
        "item_id": "i", "title": "T", "categories": ["c"], "price": 2.5, "created_at": "2024-01-01T00:00:00Z",
        "attributes": {"colour": "red"}, "schema_version": 1,
    },
    "user": {"user_id": "u", "consent": False, "attributes": {"segment": "new"}, "schema_version": 1},
}  # fmt: skip
OPTIONAL = [
    (kind, field)
    for kind, struct in RECORD_TYPES.items()
    for field in msgspec.structs.fields(struct)
    if not field.required
]
ADDED = pytest.mark.parametrize(("kind", "field"), OPTIONAL, ids=[f"{k}.{f.name}" for k, f in OPTIONAL])


def test_every_field_has_its_previous_version() -> None:
    for kind, struct in RECORD_TYPES.items():
        assert set(FULL[kind]) == {f.name for f in msgspec.structs.fields(struct)}


@ADDED
def test_this_version_may_follow_it(kind: str, field: Any) -> None:
    before = deepcopy(json_schema())
    del before["$defs"][kind.capitalize()]["properties"][field.name]
    changes = compare(before, json_schema())
    assert [(c.path, c.compatible) for c in changes] == [(f"{kind.capitalize()}.{field.name}", True)]
    back = compare(json_schema(), before)
    assert [c.compatible for c in back] == [False]


@ADDED
def test_its_records_are_read_with_the_field_at_its_default(
    kind: Any, field: Any, settings: Settings
) -> None:
    given = {name: value for name, value in FULL[kind].items() if name != field.name}
    if field.name == "item_id" and kind == "event":
        given["event_type"] = "search"  # a view names an item
    raw = json.dumps({"record": kind, **given}).encode()
    from_log = decode(raw)
    at_the_door = Contract(settings, lambda: NOW).parse(dict(given), kind)
    wanted = {**FULL[kind], **given, field.name: json.loads(msgspec.json.encode(_default(field)))}
    for record in (from_log, at_the_door):
        found = json.loads(encode(record))
        assert {name: found.get(name, wanted[name]) for name in wanted} == wanted
        assert getattr(record, field.name) == _default(field)


@pytest.mark.parametrize("mixed", [False, True], ids=["alone", "beside files of this version"])
def test_a_lake_of_it_is_built_and_checked(settings: Settings, home: Home, mixed: bool) -> None:
    lake = Lake(home.lake)
    write_records(lake, *_records())
    write_events(lake, DAY, day_events(DAY, 30))
    names = [name for kind in ("event", "item", "user") for name in lake.files(kind)]  # type: ignore[arg-type]
    required = {f.name for s in RECORD_TYPES.values() for f in msgspec.structs.fields(s) if f.required}
    kept = {*required, "ingested_at", "user_id", "item_id", "items", "attributes"}
    for name in names:
        table = pq.read_table(name)
        pq.write_table(table.select([c for c in table.column_names if c in kept]), name)
    if mixed:
        write_events(lake, DAY, day_events(DAY, 30, offset=5_000), "part-1")
    as_of = NOW - timedelta(days=1)
    with duckdb_backend("1GB", 1, home.root / "spill") as con:
        tables = read_tables(con, lake, as_of, timedelta(days=30))
        for kind, read in (("event", tables.events), ("item", tables.items), ("user", tables.users)):
            assert set(arrow_schema(kind).names) <= set(read.columns)  # type: ignore[arg-type]
        events = con.to_pyarrow(tables.events)
    assert events.num_rows == 30 * (1 + mixed)
    assert events["consent"].null_count == events.num_rows
    report = check_events(lake.files("event"), settings=settings, day=DAY)
    assert report.passed, report.blocking_failures
    for name, group in batch_groups().items():
        assert build_group(group, settings, home, as_of, lambda: NOW).rows > 0, name


def _records() -> tuple[list[Any], list[Any]]:
    parse = Contract(Settings(), lambda: NOW).parse
    items = [parse({**FULL["item"], "item_id": f"i{n}"}, "item") for n in range(5)]
    return items, [parse({"user_id": "u1"}, "user")]


def _default(field: Any) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
