"""Decodes request bodies so that one bad record does not reject its neighbours; encodes records as bytes;
represents records that the reader of their format refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, NoReturn, TypeAlias

import msgspec

from feature_repo.errors import ContractError


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that could not be converted to the contract.

    Attributes:
        raw: the original record.
        error: the cause.
        format: format of the source, to read the record again after a fix.
    """

    raw: bytes
    error: ContractError
    format: str


Given: TypeAlias = bytes | Mapping[str, Any] | Refused
"""A record of a batch: JSON text, a decoded object, or an already refused record."""


def decode_batch(body: bytes) -> Any:
    """Decode a body strictly; if that fails, decode it so that the fault stays within one record.

    Invalid UTF-8 and halves of surrogate pairs become lone surrogates in their text, and numbers too large
    for any field become infinite; the contract then rejects the records that contain them.

    Raises:
        msgspec.DecodeError: the body is not JSON.
        RecursionError: it is nested too deeply.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        try:
            return _lenient.decode(body.decode("utf-8", "surrogateescape"))
        except ValueError:
            raise msgspec.DecodeError(str(error)) from error


def _whole(digits: str) -> float:
    try:
        return int(digits)
    except ValueError:  # more digits than Python converts
        return math.inf


def _no_number(name: str) -> NoReturn:
    msg = f"{name} is no JSON"
    raise ValueError(msg)


def as_json(value: Any) -> bytes:
    """Encode a value as JSON text for the quarantine, even if strict JSON cannot represent it.

    Such text cannot be decoded again: replayed unchanged, the record is rejected again.
    """
    try:
        text = msgspec.json.encode(value, enc_hook=_plain)
        if b"null" not in text:  # infinity and NaN would be written as null
            return text
        return json.dumps(value, default=_plain, ensure_ascii=False).encode()
    except (ValueError, TypeError, OverflowError, RecursionError):
        return _escaped(value)


def _escaped(value: Any) -> bytes:
    try:
        return json.dumps(value, default=_plain).encode()
    except (ValueError, TypeError, RecursionError):
        return repr(value).encode("utf-8", "backslashreplace")


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


_lenient = json.JSONDecoder(parse_int=_whole, parse_constant=_no_number)
