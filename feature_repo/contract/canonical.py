"""Canonical bytes of a record, as the event log holds them: UTC times, known fields, JSON."""

from __future__ import annotations

from datetime import UTC

import msgspec

from feature_repo.contract.fields import keep_unknown
from feature_repo.contract.reasons import explain, not_json
from feature_repo.contract.records import EXACT, RECORD_TYPES, SCHEMA_VERSION, Event, Item, Kind, Record

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_dict_decoder = msgspec.json.Decoder()


def encode(record: Record) -> bytes:
    """Encode a record as canonical bytes."""
    return _encoder.encode(record)


def decode(raw: bytes) -> Record:
    """Decode what `encode` wrote, for records that have already passed `Contract.parse`.

    Raises:
        ContractError: the bytes are not such a record.
    """
    try:
        return _decoder.decode(raw)
    except (UnicodeError, RecursionError) as error:
        raise not_json(raw, error) from error
    except msgspec.MsgspecError as error:
        return _decode_newer(raw, error)


def _decode_newer(raw: bytes, error: msgspec.MsgspecError) -> Record:
    """Decode a record of a later contract version; keep unknown fields as text."""
    try:
        fields = _dict_decoder.decode(raw)
        kind = fields["record"]
        if not keep_unknown(fields, kind, strict=False):
            raise explain(error) from error
        fields["schema_version"] = min(fields.get("schema_version", 1), SCHEMA_VERSION)
        return msgspec.convert(fields, RECORD_TYPES[kind])
    except (UnicodeError, RecursionError) as wrong:
        raise not_json(raw, wrong) from wrong
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        raise explain(error) from error


def as_written(raw: bytes | str, kind: Kind | None) -> Record | None:
    """Return the record if the text is already canonical (UTC times, known fields), else `None`."""
    try:
        record = _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    if kind is not None and record.kind != kind:
        return None
    if isinstance(record, Event):
        return record if record.event_time.tzinfo is UTC else None
    if any(isinstance(value, float) and abs(value) >= EXACT for value in record.attributes.values()):
        return None
    if isinstance(record, Item):
        if record.price is not None and record.price >= EXACT:
            return None
        return record if record.created_at is None or record.created_at.tzinfo is UTC else None
    return record
