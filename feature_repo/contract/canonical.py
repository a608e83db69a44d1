"""The canonical bytes of a record, as the event log holds them: UTC times, known fields, JSON."""

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
    """The canonical bytes of a record."""
    return _encoder.encode(record)


def decode(raw: bytes) -> Record:
    """Read back what `encode` wrote. For records that have passed `Contract.parse` already.

    Raises:
        ContractError: the bytes are no such record.
    """
    try:
        return _decoder.decode(raw)
    except (UnicodeError, RecursionError) as error:
        raise not_json(raw, error) from error
    except msgspec.MsgspecError as error:
        return _decode_newer(raw, error)


def _decode_newer(raw: bytes, error: msgspec.MsgspecError) -> Record:
    """A record of a later version of this contract: what this one does not know is kept as text."""
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
    """The record, when the text is canonical already (UTC times, known fields); else the slow way decides."""
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
