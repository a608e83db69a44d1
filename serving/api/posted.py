"""The values of a posted body: one object or an array of objects, of limited length."""

from __future__ import annotations

from typing import Any

import msgspec

from feature_repo.contract.json_batch import decode_batch
from serving.schemas.errors import ApiError

MAX_RECORDS = 10_000
"""Maximum number of records in one body: more would keep a thread and the GIL busy for too long."""


def values_of(body: bytes) -> list[Any]:
    """Return the elements of an array, or the single object.

    Raises:
        ApiError: 422, the body is not JSON, neither an object nor an array, or holds too many records.
    """
    try:
        value = decode_batch(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"body: not valid JSON in UTF-8 ({error}); send one event object or an array of them"
        raise ApiError(422, "not_json", "", message) from error
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        message = "body: neither an object nor an array; send one event object or an array of them"
        raise ApiError(422, "wrong_type", "", message)
    if len(value) > MAX_RECORDS:
        message = f"body: {len(value)} records; send at most {MAX_RECORDS} at once"
        raise ApiError(422, "too_many_records", "", message)
    return value
