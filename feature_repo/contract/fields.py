"""Prepares a record's raw fields for the structs: nulls become absent, unknown fields become text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from feature_repo.contract.attribute import attribute, scalar_text
from feature_repo.contract.reasons import cut, key, shown
from feature_repo.contract.records import EXACT, RECORD_TYPES, Attribute, Kind, ShownItem
from feature_repo.errors import ContractError

ROOMS: dict[Kind, str] = {"event": "properties", "item": "attributes", "user": "attributes"}
"""Where each kind of record keeps fields outside the contract."""

_ROOMS = tuple(dict.fromkeys(ROOMS.values()))
_KNOWN: dict[Kind, frozenset[str]] = {
    kind: frozenset(f.name for f in msgspec.structs.fields(struct)) | {"record"}
    for kind, struct in RECORD_TYPES.items()
}
_SLOT = frozenset(ShownItem.__struct_fields__)
_encoder = msgspec.json.Encoder()


def drop_nulls(fields: dict[str, Any]) -> None:
    """Remove null fields, attributes and properties, because an empty cell of a table means absent."""
    if None in fields.values():
        for name in [name for name, value in fields.items() if value is None]:
            del fields[name]
    for room in _ROOMS:
        if isinstance(of := fields.get(room), Mapping) and None in of.values():
            fields[room] = {name: value for name, value in of.items() if value is not None}


def keep_unknown(fields: dict[str, Any], kind: Kind, *, strict: bool) -> list[str]:
    """Move fields the contract does not know into the record's room; return their names.

    Properties become text; attributes keep numbers and lists, by the rule of
    `feature_repo.contract.attribute`. Unknown fields in an impression's slots are kept together there, as one
    JSON text named ``items``. A room that is not an object is left for validation to reject.

    Args:
        strict: reject a field that is also in the room with another value; otherwise the room's value wins.

    Raises:
        ContractError: a value cannot be kept as text, or contradicts the room.
    """
    known = _KNOWN[kind]
    unknown = [name for name in fields if name not in known]
    found = {name: fields.pop(name) for name in unknown}
    if kind == "event" and isinstance(fields.get("items"), list) and (names := _split_slots(fields, found)):
        unknown += names
    if not unknown:
        return unknown
    kept = fields.get(ROOMS[kind])
    if kept is not None and not isinstance(kept, Mapping):
        return unknown
    kept = dict(kept or {})
    for name, value in found.items():
        if value is None or _is_nan(value):
            continue
        text = _text(name, value) if kind == "event" else _attribute(name, value)
        if strict and kept.get(name, text) not in (text, value):
            field = key(ROOMS[kind], name)
            msg = f"{field}: given twice with different values, here and as a field of its own; send one"
            raise ContractError("bad_value", field, msg)
        kept.setdefault(name, text)
    fields[ROOMS[kind]] = kept
    return unknown


def _split_slots(fields: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Leave in the slots what the contract knows; put the rest into `found`; return the names."""
    slots = fields["items"]
    if all(not isinstance(slot, dict) or slot.keys() <= _SLOT for slot in slots):
        return []
    rest = [_less(slot, _SLOT) if isinstance(slot, dict) else {} for slot in slots]
    if names := list(dict.fromkeys(name for extra in rest for name in extra)):
        found["items"] = rest
    fields["items"] = [
        {name: slot[name] for name in slot.keys() & _SLOT} if isinstance(slot, dict) else slot
        for slot in slots
    ]
    return [f"items.{name}" for name in names]


def _less(slot: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in slot.items() if name not in known and value is not None}


def _attribute(name: str, value: Any) -> Attribute:
    check_finite(cut(name), value)
    found = attribute(value)
    return _text(name, value) if found is None else found


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    name = cut(name)
    check_finite(name, value)
    try:
        # The encoder rejects integers beyond 64 bits; their digits are their JSON text.
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, float) and (plain := scalar_text(value)) is not None:
            return plain
        text = _encoder.encode(value)
        if b"null" in text:  # infinity and NaN are written as null
            json.dumps(value, allow_nan=False, default=str)
        return text.decode()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        msg = f"{name}: cannot be kept as JSON text ({error}); send text, a number, or a shallow object"
        raise ContractError("bad_value", name, msg) from error


def _is_nan(value: Any) -> bool:
    """Return whether the value is NaN, by which tables mark a missing number."""
    return isinstance(value, float) and math.isnan(value)


def check_finite(name: str, value: Any) -> None:
    """Reject numbers that JSON, and so the event log, cannot represent, although tables can.

    Raises:
        ContractError: the value is infinite or NaN.
    """
    if isinstance(value, float) and not math.isfinite(value):
        msg = f"{name}: {value} is not a finite number"
        raise ContractError("not_finite", name, msg)


def check_exact(fields: Mapping[str, Any]) -> None:
    """Reject whole numbers that would lose digits, such as a code of 20 digits sent as a number.

    Raises:
        ContractError: names the field or attribute.
    """
    _check_digits("price", fields.get("price"))
    attributes = fields.get("attributes")
    for name, value in attributes.items() if isinstance(attributes, Mapping) else ():
        if isinstance(value, int):
            _check_digits(key("attributes", name), value)


def _check_digits(field: str, value: Any) -> None:
    if isinstance(value, int) and abs(value) > EXACT and not _survives(value):
        msg = f"{field}: {shown(value)} has more digits than a number keeps; send it as text, in quotes"
        raise ContractError("bad_value", field, msg)


def _survives(value: int) -> bool:
    try:
        return int(float(value)) == value
    except OverflowError:
        return False
