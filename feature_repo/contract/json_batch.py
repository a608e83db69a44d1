"""Records as they came in a request: a body decoded so that one bad record does not refuse its neighbours,
a record back as bytes, and a record that the reader of its format refused."""

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
    """A record that could not be translated into the contract.

    Attributes:
        raw: as it came.
        error: why.
        format: of the source that refused it, to read it again after a fix.
    """

    raw: bytes
    error: ContractError
    format: str


Given: TypeAlias = bytes | Mapping[str, Any] | Refused
"""A record of a batch: JSON text, the decoded object, or refused already."""


def decode_batch(body: bytes) -> Any:
    """Decode a body strictly; where that fails, in a way that leaves what is wrong inside the one record.

    Bytes that are not UTF-8 and halves of surrogate pairs become lone surrogates in their text, and numbers
    too large for any field become infinite: the contract then refuses the records that hold them.

    Raises:
        msgspec.DecodeError: no JSON text.
        RecursionError: nested too deeply.
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
    """A value as JSON text for the quarantine, also where it holds what strict JSON does not.

    The text then cannot be read back either: replayed unchanged, the record is refused again.
    """
    try:
        text = msgspec.json.encode(value, enc_hook=_plain)
        if b"null" not in text:  # what is infinite or not a number would be written so
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
