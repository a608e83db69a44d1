"""Event contract v1: the one declaration of what an event, an item and a user are.

The msgspec structs below are the source; the Arrow schemas (`arrow_schema`), the JSON Schema
(`json_schema`) and the validation of every record at every door (`Contract.parse`) derive from them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence, Sized
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec
import pyarrow as pa
from msgspec import Meta, Struct

from feature_repo.errors import ContractError
from feature_repo.settings import Settings

SCHEMA_VERSION = 1
ID_BYTES = 256

Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=ID_BYTES)]
Time: TypeAlias = Annotated[
    datetime, Meta(tz=True, description="ISO 8601 with a zone, or epoch milliseconds.")
]
Attribute: TypeAlias = str | float | list[str]
Kind: TypeAlias = Literal["event", "item", "user"]


class ShownItem(Struct, frozen=True, omit_defaults=True):
    """One slot of an impression, in the order shown."""

    item_id: Annotated[Id, Meta(description="The item shown.")]
    score: Annotated[float | None, Meta(description="The score it was shown with.")] = None


class Event(
    Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,  # holds no cycles; collections over batches of 100,000 cost a quarter of ingest
    forbid_unknown_fields=True,
    tag_field="record",
    tag="event",
):
    """Something a user did or was shown."""

    kind: ClassVar[Kind] = "event"

    event_id: Annotated[Id, Meta(description="The deduplication key: the same id is counted once.")]
    event_type: Annotated[
        str,
        Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$", description="A built-in type or one registered in settings."),
    ]
    event_time: Annotated[Time, Meta(description="When it happened.")]
    session_id: Annotated[Id, Meta(description="The session it belongs to.")]
    user_id: Annotated[Id | None, Meta(description="Absent while the user is anonymous.")] = None
    item_id: Annotated[Id | None, Meta(description="The item acted on.")] = None
    items: Annotated[
        tuple[ShownItem, ...], Meta(description="For impressions: what was shown, in order.")
    ] = ()
    request_id: Annotated[Id | None, Meta(description="The ranking that showed the item.")] = None
    position: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000)] | None, Meta(description="Position shown at, from 0.")
    ] = None
    query: Annotated[
        Annotated[str, Meta(max_length=1024)] | None, Meta(description="For searches: what was asked.")
    ] = None
    consent: Annotated[
        bool | None, Meta(description="Whether personalization is permitted; absent: not stated.")
    ] = None
    properties: Annotated[dict[str, str], Meta(description="Anything else, as text.")] = {}
    schema_version: Annotated[int, Meta(ge=1, le=SCHEMA_VERSION, description="Version of this contract.")] = 1


class Item(
    Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,  # holds no cycles; collections over batches of 100,000 cost a quarter of ingest
    forbid_unknown_fields=True,
    tag_field="record",
    tag="item",
):
    """Something that can be ranked. The newest record of an item id wins."""

    kind: ClassVar[Kind] = "item"

    item_id: Annotated[Id, Meta(description="Key of the item.")]
    title: Annotated[str, Meta(description="Name shown to people.")] = ""
    categories: Annotated[tuple[Id, ...], Meta(description="One or more categories.")] = ()
    price: Annotated[Annotated[float, Meta(ge=0)] | None, Meta(description="Price, in the shop's unit.")] = (
        None
    )
    created_at: Annotated[Time | None, Meta(description="When the item came into being.")] = None
    attributes: Annotated[
        dict[str, Attribute], Meta(description="Further attributes: text, a number, or a list of texts.")
    ] = {}
    schema_version: Annotated[int, Meta(ge=1, le=SCHEMA_VERSION, description="Version of this contract.")] = 1


class User(
    Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,  # holds no cycles; collections over batches of 100,000 cost a quarter of ingest
    forbid_unknown_fields=True,
    tag_field="record",
    tag="user",
):
    """What is declared about a user. The newest record of a user id wins."""

    kind: ClassVar[Kind] = "user"

    user_id: Annotated[Id, Meta(description="Key of the user.")]
    attributes: Annotated[dict[str, Attribute], Meta(description="Declared attributes.")] = {}
    consent: Annotated[
        bool | None, Meta(description="Whether personalization is permitted; absent: not stated.")
    ] = None
    schema_version: Annotated[int, Meta(ge=1, le=SCHEMA_VERSION, description="Version of this contract.")] = 1


Record: TypeAlias = Event | Item | User
RECORD_TYPES: dict[Kind, type[Record]] = {"event": Event, "item": Item, "user": User}
TIME_FIELDS: dict[Kind, tuple[str, ...]] = {"event": ("event_time",), "item": ("created_at",), "user": ()}

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_dict_decoder = msgspec.json.Decoder()


def encode(record: Record) -> bytes:
    """The canonical bytes of a record, as the event log holds them."""
    return _encoder.encode(record)


def decode(raw: bytes) -> Record:
    """Read back what `encode` wrote. For records that have passed `Contract.parse` already.

    Raises:
        ContractError: the bytes are no such record.
    """
    try:
        return _decoder.decode(raw)
    except msgspec.MsgspecError as error:
        return _decode_newer(raw, error)


def _decode_newer(raw: bytes, error: msgspec.MsgspecError) -> Record:
    """A record of a later version of this contract: what this one does not know is kept as text."""
    try:
        fields = _dict_decoder.decode(raw)
        kind = fields["record"]
        if not _keep_unknown(fields, kind):
            raise _explain(error) from error
        fields["schema_version"] = min(fields.get("schema_version", 1), SCHEMA_VERSION)
        return msgspec.convert(fields, RECORD_TYPES[kind])
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise _explain(error) from error


class Contract:
    """Validation at the door: shape from the structs, meaning from the settings.

    Args:
        settings: registered event types and the bounds on event time.
        clock: the present, for the bound on the future.
        on_unknown: told the kind and the names of fields the contract does not know.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], datetime],
        on_unknown: Callable[[Kind, Sequence[str]], None] | None = None,
    ) -> None:
        self.weights: Mapping[str, float] = settings.weights
        self._on_unknown = on_unknown
        self._clock = clock
        self._earliest = settings.earliest_event_time
        self._tolerance = timedelta(seconds=settings.future_tolerance_s)
        self._latest = datetime.min.replace(tzinfo=UTC)

    def parse(self, raw: bytes | str | Mapping[str, Any], kind: Kind | None = None) -> Record:
        """Validate one record.

        Args:
            raw: JSON text, or the decoded object.
            kind: the kind when the source holds one kind only; else the object's ``record`` tells.

        Returns:
            the record; fields the contract does not know are kept in ``properties`` (events)
            or ``attributes`` (items, users) as text.

        Raises:
            ContractError: with a stable code, the field, and what would be right.
        """
        if not isinstance(raw, Mapping) and (record := _as_written(raw, kind)) is not None:
            self._check(record)
            return record
        fields = self._object(raw)
        kind = _kind(fields, kind)
        fields["record"] = kind
        for name in TIME_FIELDS[kind]:
            if name in fields:
                fields[name] = _time(fields[name], name)
        unknown = _keep_unknown(fields, kind)
        if unknown and self._on_unknown is not None:
            self._on_unknown(kind, unknown)
        try:
            record = msgspec.convert(fields, RECORD_TYPES[kind])
        except msgspec.ValidationError as error:
            raise _explain(error) from error
        self._check(record)
        return record

    def _object(self, raw: bytes | str | Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(raw, Mapping):
            return dict(raw)
        try:
            value = _dict_decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise not_json(raw, error) from error
        if not isinstance(value, dict):
            msg = f"a JSON {json_type(value)} where an object belongs; write one JSON object per line"
            raise ContractError("not_an_object", "", msg)
        return value

    def _check(self, record: Record) -> None:
        for name in ("event_id", "session_id", "user_id", "item_id", "request_id"):
            value = getattr(record, name, None)
            if value is not None and len(value) * 4 > ID_BYTES and len(value.encode()) > ID_BYTES:
                msg = f"{name}: {len(value.encode())} bytes; an id has at most {ID_BYTES}"
                raise ContractError("id_too_long", name, msg)
        if isinstance(record, Event):
            self._check_event(record)
        elif isinstance(record, Item):
            _check_item(record)

    def _check_event(self, event: Event) -> None:
        if event.event_type not in self.weights:
            msg = (
                f"event_type: {event.event_type!r} is not registered; known are "
                f"{', '.join(sorted(self.weights))}; register it: HEADRACE_EVENT_WEIGHTS={event.event_type}=1"
            )
            raise ContractError("unknown_event_type", "event_type", msg)
        if event.event_time > self._latest:
            # Asked only here: the clock costs as much as all other checks together.
            self._latest = self._clock() + self._tolerance
        if not self._earliest <= event.event_time <= self._latest:
            latest = self._latest
            msg = (
                f"event_time: {event.event_time.isoformat()} is outside "
                f"{self._earliest.isoformat()} … {latest.isoformat(timespec='seconds')}; "
                "send UTC ISO 8601 or epoch milliseconds (not seconds)"
            )
            raise ContractError("time_out_of_range", "event_time", msg)
        if event.event_type == "impression":
            if not event.items:
                msg = 'items: an impression must list what was shown, e.g. [{"item_id": "i1"}]'
                raise ContractError("missing_field", "items", msg)
            for slot in event.items:
                if slot.score is not None and not math.isfinite(slot.score):
                    msg = f"items.score: {slot.score} of {slot.item_id!r} is not a finite number"
                    raise ContractError("not_finite", "items.score", msg)
        elif event.event_type == "search":
            if not event.query:
                msg = "query: a search must say what was asked"
                raise ContractError("missing_field", "query", msg)
        elif event.item_id is None:
            msg = f"item_id: a {event.event_type} must name the item acted on"
            raise ContractError("missing_field", "item_id", msg)


def _check_item(item: Item) -> None:
    numbers = {"price": item.price, **item.attributes}
    for name, value in numbers.items():
        if isinstance(value, float) and not math.isfinite(value):
            msg = f"{name}: {value} is not a finite number"
            raise ContractError("not_finite", name, msg)


def _as_written(raw: bytes | str, kind: Kind | None) -> Record | None:
    """The record, when the text is canonical already (UTC times, known fields); else the slow way decides."""
    try:
        record = _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if kind is not None and record.kind != kind:
        return None
    if isinstance(record, Event):
        return record if record.event_time.tzinfo is UTC else None
    if isinstance(record, Item) and record.created_at is not None:
        return record if record.created_at.tzinfo is UTC else None
    return record


def not_json(raw: bytes | str, error: Exception) -> ContractError:
    """Why a line is no JSON text: its encoding, or its syntax."""
    try:
        raw.decode() if isinstance(raw, bytes) else raw.encode()
    except UnicodeError as wrong:
        msg = f"not valid UTF-8 ({wrong}); save the file in UTF-8"
        return ContractError("not_utf8", "", msg)
    msg = f"not valid JSON: {error}; write one JSON object per line"
    return ContractError("not_json", "", msg)


_FIELD_AT = re.compile(r" - at `\$?\.?([^`]*)`")


def _explain(error: msgspec.MsgspecError) -> ContractError:
    """Map msgspec's message to a code, the field and a sentence."""
    text = str(error)
    match = _FIELD_AT.search(text)
    field = match.group(1) if match else ""
    what = _FIELD_AT.sub("", text)
    if missing := re.search(r"missing required field `(\w+)`", what):
        field = f"{field}.{missing.group(1)}".lstrip(".")
        return ContractError("missing_field", field, f"{field}: required and absent")
    code = "wrong_type" if what.startswith("Expected `") and ", got `" in what else "bad_value"
    return ContractError(code, field, f"{field or 'record'}: {what[:1].lower()}{what[1:]}")


def _kind(fields: dict[str, Any], kind: Kind | None) -> Kind:
    named = fields.get("record", kind)
    if named not in RECORD_TYPES:
        msg = f'record: {named!r}; each object says what it is with "record": "event", "item" or "user"'
        raise ContractError("missing_field" if named is None else "bad_value", "record", msg)
    if kind is not None and named != kind:
        msg = f"record: {named!r} in a file of {kind}s"
        raise ContractError("bad_value", "record", msg)
    found: Kind = named
    return found


def _time(value: Any, name: str) -> Any:
    """ISO 8601 text, epoch milliseconds or a datetime to UTC; anything else is left to msgspec."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        try:
            return datetime.fromtimestamp(value / 1000, UTC)
        except (OverflowError, ValueError, OSError) as error:
            msg = f"{name}: {value} is no time in epoch milliseconds; 2024-01-01 is 1704067200000"
            raise ContractError("time_out_of_range", name, msg) from error
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            msg = f"{name}: {value!r} is no ISO 8601 time; write e.g. 2024-01-01T12:00:00Z"
            raise ContractError("bad_value", name, msg) from error
    if isinstance(value, datetime):
        if value.tzinfo is None:
            msg = f"{name}: {value.isoformat()} has no time zone; write e.g. {value.isoformat()}Z"
            raise ContractError("bad_value", name, msg)
        return value.astimezone(UTC)
    return value


def _keep_unknown(fields: dict[str, Any], kind: Kind) -> list[str]:
    known = _FIELD_NAMES[kind]
    unknown = [name for name in fields if name not in known]
    if not unknown:
        return unknown
    room = "properties" if kind == "event" else "attributes"
    kept = fields.get(room)
    kept = dict(kept) if isinstance(kept, Mapping) else {}
    for name in unknown:
        value = fields.pop(name)
        if value is not None:
            kept.setdefault(name, value if isinstance(value, str) else _encoder.encode(value).decode())
    fields[room] = kept
    return unknown


_FIELD_NAMES: dict[Kind, frozenset[str]] = {
    kind: frozenset(f.name for f in msgspec.structs.fields(struct)) | {"record"}
    for kind, struct in RECORD_TYPES.items()
}


def json_type(value: Any) -> str:
    """What JSON calls the type of a value."""
    names = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


# Derived schemas

_ATTRIBUTE = pa.struct(
    [
        pa.field("name", pa.string()),
        pa.field("values", pa.list_(pa.string())),
        pa.field("number", pa.float64()),
    ]
)
_TIMESTAMP = pa.timestamp("us", tz="UTC")


@cache
def arrow_schema(kind: Kind) -> pa.Schema:
    """Columns of one kind of record in the lake: the struct's fields in order, then ``ingested_at``.

    Attributes become a list of ``{name, values, number}`` (text in ``values``, a number in ``number``), which
    both DuckDB and Spark unnest; properties become a map of text.
    """
    info = msgspec.inspect.type_info(RECORD_TYPES[kind])
    assert isinstance(info, msgspec.inspect.StructType)
    columns = [pa.field(f.name, _arrow_type(f.type), nullable=not f.required) for f in info.fields]
    return pa.schema([*columns, pa.field("ingested_at", _TIMESTAMP, nullable=False)])


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
    """Records of one kind as a table with `arrow_schema`."""
    schema = arrow_schema(kind)
    columns: list[Any] = []
    for field in schema:
        if field.name == "ingested_at":
            columns.append(pa.repeat(pa.scalar(ingested_at, field.type), len(records)))
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
    """One row of the lake (``table.to_pylist()``) back to the record."""
    fields = {k: v for k, v in row.items() if v is not None and k != "ingested_at"}
    if "attributes" in fields:
        fields["attributes"] = {
            a["name"]: a["number"] if a["number"] is not None else list(a["values"] or ())
            for a in fields["attributes"]
        }
    if "properties" in fields:
        fields["properties"] = dict(fields["properties"])
    return msgspec.convert({**fields, "record": kind}, RECORD_TYPES[kind])


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one record in a file or in `POST /v1/events`."""
    (schema,), components = msgspec.json.schema_components((Record,), ref_template="#/$defs/{name}")
    for name, struct in RECORD_TYPES.items():
        components[struct.__name__].pop("additionalProperties", None)  # unknown fields are kept, not refused
        for field in TIME_FIELDS[name]:
            properties = components[struct.__name__]["properties"]
            described = properties[field].get("description", "")
            variants = properties[field].get("anyOf", [{"type": "string", "format": "date-time"}])
            if not any(v.get("type") == "integer" for v in variants):
                variants = [*variants, {"type": "integer", "description": "epoch milliseconds"}]
            properties[field] = {"anyOf": variants, "description": described}
            if "default" not in properties[field] and field == "created_at":
                properties[field]["default"] = None
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Headrace event contract v{SCHEMA_VERSION}",
        **schema,
        "$defs": components,
    }
    plain: dict[str, Any] = _dict_decoder.decode(_encoder.encode(whole))  # tuples become what JSON has
    return plain
