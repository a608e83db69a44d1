"""The structs of event contract v1 (event, item, user), from which everything else derives."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta, Struct

SCHEMA_VERSION = 1
ID_BYTES = 256
EXACT = 2**53
"""Largest whole number up to which all are exact as floats."""

Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=ID_BYTES)]
Time: TypeAlias = Annotated[
    datetime, Meta(tz=True, description="ISO 8601 with a zone, or epoch milliseconds.")
]
Attribute: TypeAlias = str | float | list[str]
Kind: TypeAlias = Literal["event", "item", "user"]


class ShownItem(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One slot of an impression, in the order shown."""

    item_id: Annotated[Id, Meta(description="The item shown.")]
    score: Annotated[float | None, Meta(description="The score it was shown with.")] = None


class Event(
    Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,  # no cycles; garbage collection over batches of 100,000 costs a quarter of ingest
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
    gc=False,  # no cycles; garbage collection over batches of 100,000 costs a quarter of ingest
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
    gc=False,  # no cycles; garbage collection over batches of 100,000 costs a quarter of ingest
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
