"""Records as columns: the Arrow schemas of the lake, and conversion of records to and from tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from datetime import datetime
from functools import cache
from itertools import accumulate
from operator import attrgetter
from typing import Any

import msgspec
import pyarrow as pa

from feature_repo.catalogue import facts_of, texts_of
from feature_repo.contract.records import RECORD_TYPES, Attribute, Item, Kind, Record, ShownItem, User

FACTS = "_facts"
"""Column of items and users with the attributes for batch expressions, `normalized` in Python."""
LAKE_ONLY = frozenset({"ingested_at", FACTS})
"""Columns of the lake that are not fields of a record."""

_ATTRIBUTE = pa.struct(
    [
        pa.field("name", pa.string()),
        pa.field("values", pa.list_(pa.string())),
        pa.field("number", pa.float64()),
    ]
)
_TIMESTAMP = pa.timestamp("us", tz="UTC")
_NUMERICS = pa.list_(pa.struct([("name", pa.string()), ("value", pa.float64())]))
_TEXTS = pa.list_(pa.struct([("name", pa.string()), ("value", pa.string())]))
_FACTS = {
    "item": pa.struct([("attr_keys", pa.list_(pa.string())), ("numerics", _NUMERICS)]),
    "user": pa.struct([("texts", _TEXTS)]),
}


@cache
def arrow_schema(kind: Kind) -> pa.Schema:
    """Return the lake's columns for a kind of record: the fields in order, ``ingested_at``, and `FACTS`.

    Attributes become a list of ``{name, values, number}`` (text in ``values``, a number in ``number``), which
    DuckDB and Spark can unnest; properties become a map of text. For an item, `FACTS` holds ``attr_keys`` and
    ``numerics`` as in `facts_of`; for a user, ``texts`` as in `texts_of`.
    """
    info = msgspec.inspect.type_info(RECORD_TYPES[kind])
    assert isinstance(info, msgspec.inspect.StructType)
    columns = [pa.field(f.name, _arrow_type(f.type), nullable=not f.required) for f in info.fields]
    columns.append(pa.field("ingested_at", _TIMESTAMP, nullable=False))
    return pa.schema([*columns, *(pa.field(FACTS, _FACTS[kind]) for _ in range(kind in _FACTS))])


def _arrow_type(info: msgspec.inspect.Type) -> pa.DataType:
    match info:
        case msgspec.inspect.Metadata(type=inner):
            return _arrow_type(inner)
        case msgspec.inspect.UnionType(types=types):
            present = [t for t in types if not isinstance(t, msgspec.inspect.NoneType)]
            return _arrow_type(present[0])
        case msgspec.inspect.StrType():
            return pa.string()
        case msgspec.inspect.BoolType():
            return pa.bool_()
        case msgspec.inspect.IntType():
            return pa.int64()
        case msgspec.inspect.FloatType():
            return pa.float64()
        case msgspec.inspect.DateTimeType():
            return _TIMESTAMP
        case msgspec.inspect.VarTupleType(item_type=item) | msgspec.inspect.ListType(item_type=item):
            return pa.list_(_arrow_type(item))
        case msgspec.inspect.DictType(value_type=msgspec.inspect.StrType()):
            return pa.map_(pa.string(), pa.string())
        case msgspec.inspect.DictType():
            return pa.list_(_ATTRIBUTE)
        case msgspec.inspect.StructType(fields=fields):
            return pa.struct([pa.field(f.name, _arrow_type(f.type)) for f in fields])
    msg = f"no Arrow type for {info}"
    raise TypeError(msg)


def to_arrow(kind: Kind, records: Sequence[Record], ingested_at: datetime) -> pa.Table:
    """Convert records of one kind to a table with `arrow_schema`."""
    schema = arrow_schema(kind)
    columns: list[Any] = []
    for field in schema:
        if field.name == "ingested_at":
            columns.append(pa.repeat(pa.scalar(ingested_at, field.type), len(records)))
            continue
        if field.name == FACTS:
            columns.append(pa.array(map(_facts, records), field.type))
            continue
        values: list[Any] = list(map(attrgetter(field.name), records))
        if field.name == "items":
            columns.append(_shown(values, field.type))
        elif field.name == "properties":
            keys = pa.array([name for value in values for name in value], pa.string())
            texts = pa.array([text for value in values for text in value.values()], pa.string())
            columns.append(pa.MapArray.from_arrays(_offsets(values), keys, texts))
        elif field.name == "attributes":
            values = [[_attribute(name, v) for name, v in value.items()] for value in values]
            columns.append(pa.array(values, field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _facts(record: Record) -> dict[str, Any]:
    if isinstance(record, Item):
        facts = facts_of(record)
        return {"attr_keys": facts.attr_keys, "numerics": _named(facts.numerics)}
    assert isinstance(record, User)
    return {"texts": _named(texts_of(record))}


def _named(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def with_facts(kind: Kind, table: pa.Table) -> pa.Table:
    """Return a lake table with `FACTS`, computed for rows written by a version without them."""
    if kind not in _FACTS:
        return table
    if FACTS in table.column_names and not table[FACTS].null_count:
        return table
    made = [
        pa.array((_facts(_unchecked(kind, row)) for row in batch.to_pylist()), _FACTS[kind])
        for batch in table.drop_columns([n for n in (FACTS,) if n in table.column_names]).to_batches(10_000)
    ]
    column = pa.chunked_array(made, _FACTS[kind])
    if FACTS in table.column_names:
        return table.set_column(table.column_names.index(FACTS), FACTS, column)
    return table.append_column(FACTS, column)


def _unchecked(kind: Kind, row: Mapping[str, Any]) -> Record:
    """Return the part of a record that determines its facts, without validation."""
    attributes = {
        name: [text for text in value if text is not None] if isinstance(value, list) else value
        for name, value in _attributes(row.get("attributes") or ()).items()
    }
    if kind == "user":
        return User(user_id="", attributes=attributes)
    return Item(
        item_id="",
        categories=tuple(c for c in row.get("categories") or () if c is not None),
        price=row.get("price"),
        created_at=row.get("created_at"),
        attributes=attributes,
    )


def _attributes(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {a["name"]: a["number"] if a["number"] is not None else list(a["values"] or ()) for a in rows}


def _shown(values: Sequence[Sequence[ShownItem]], kind: pa.DataType) -> pa.Array:
    slots = [slot for value in values for slot in value]
    ids = pa.array([slot.item_id for slot in slots], pa.string())
    scores = pa.array([slot.score for slot in slots], pa.float64())
    flat = pa.StructArray.from_arrays([ids, scores], fields=list(kind.value_type))
    return pa.ListArray.from_arrays(_offsets(values), flat, type=kind)


def _offsets(values: Sequence[Sized]) -> pa.Array:
    return pa.array(accumulate(map(len, values), initial=0), pa.int32())


def _attribute(name: str, value: Attribute) -> dict[str, Any]:
    if isinstance(value, int | float):
        return {"name": name, "values": None, "number": float(value)}
    return {"name": name, "values": [value] if isinstance(value, str) else list(value), "number": None}


def from_arrow(kind: Kind, row: Mapping[str, Any]) -> Record:
    """Convert one row of the lake (``table.to_pylist()``) back to the record."""
    fields = {k: v for k, v in row.items() if v is not None and k not in LAKE_ONLY}
    if "attributes" in fields:
        fields["attributes"] = _attributes(fields["attributes"])
    if "properties" in fields:
        fields["properties"] = dict(fields["properties"])
    return msgspec.convert({**fields, "record": kind}, RECORD_TYPES[kind])
