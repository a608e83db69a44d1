"""The contract as JSON Schema, derived from the structs; published as ``docs/event.schema.json``."""

from __future__ import annotations

from typing import Any

import msgspec

from feature_repo.contract.fields import ROOMS
from feature_repo.contract.records import RECORD_TYPES, SCHEMA_VERSION, TIME_FIELDS, Record

_NULL = {"type": "null"}


def _with(schema: dict[str, Any], variant: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that allows one more variant; the field's description stays outside."""
    outside: dict[str, Any] = {n: schema[n] for n in ("description", "default") if n in schema}
    inside = {name: value for name, value in schema.items() if name not in outside}
    variants = inside.get("anyOf", [inside])
    if any(v.get("type") == variant["type"] for v in variants):
        return schema
    return {"anyOf": [*variants, variant], **outside}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one record in a file or in `POST /v1/events`."""
    (schema,), components = msgspec.json.schema_components((Record,), ref_template="#/$defs/{name}")
    components["ShownItem"].pop("additionalProperties", None)  # unknown fields are kept, not rejected
    for kind, struct in RECORD_TYPES.items():
        described = components[struct.__name__]
        described.pop("additionalProperties", None)
        properties = described["properties"]
        for field in TIME_FIELDS[kind]:
            properties[field] = _with(
                properties[field], {"type": "integer", "description": "epoch milliseconds"}
            )
        for field in properties.keys() - set(described["required"]):
            properties[field] = _with(properties[field], _NULL)
        room = properties[ROOMS[kind]]["anyOf"][0]
        room["additionalProperties"] = _with(room["additionalProperties"], _NULL)
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Headrace event contract v{SCHEMA_VERSION}",
        **schema,
        "$defs": components,
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(whole))  # tuples become JSON arrays
    return plain
