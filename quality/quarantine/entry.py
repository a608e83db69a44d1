"""One rejected record, and its line in the quarantine's files."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import xxhash

from feature_repo.contract.records import Kind
from feature_repo.errors import ContractError

_PREFIX = b'{"id": "'
_ID_END = len(_PREFIX) + 16
_ENDS = tuple(f'"kind": {kind}}}\n'.encode() for kind in ("null", '"event"', '"item"', '"user"'))


@dataclass(frozen=True)
class Entry:
    """One rejected record.

    Attributes:
        id: of source, place and bytes: the same rejection has the same id.
        raw: the bytes as they came.
        source: file, or the door they came through.
        line: line (text), row (tables) or byte offset (log segments) in it; `None` where there is none.
        code, field, message: the reason; the code is stable.
        first_seen: when it was rejected first.
        format, kind, layout: how the source was read, to read the bytes again.
        retried: when it was replayed with success, else `None`.
    """

    id: str
    raw: bytes
    source: str
    line: int | None
    code: str
    field: str
    message: str
    first_seen: datetime
    format: str = "headrace"
    kind: Kind | None = None
    retried: datetime | None = None
    layout: Mapping[str, Any] | None = None


def new_entry(
    raw: bytes,
    source: str,
    line: int | None,
    error: ContractError,
    first_seen: datetime,
    *,
    fmt: str,
    kind: Kind | None,
    layout: Mapping[str, Any] | None = None,
) -> Entry:
    """The entry of a rejection; text that no file can hold is spelt out."""
    source = _text(source)
    return Entry(
        id=xxhash.xxh3_64_hexdigest(b"\0".join((source.encode(), str(line).encode(), raw))),
        raw=raw,
        source=source,
        line=line,
        code=error.code,
        field=_text(error.field),
        message=_text(str(error)),
        first_seen=first_seen,
        format=fmt,
        kind=kind,
        layout=layout,
    )


def to_line(entry: Entry) -> bytes:
    """The entry as one line of JSON. `id_of_line` relies on `id` being first and `kind` last."""
    fields: dict[str, Any] = {"id": entry.id}
    try:
        fields["raw"] = entry.raw.decode()
    except UnicodeDecodeError:
        fields["raw_base64"] = base64.b64encode(entry.raw).decode()
    fields |= {
        "source": entry.source,
        "line": entry.line,
        "code": entry.code,
        "field": entry.field,
        "message": entry.message,
        "first_seen": entry.first_seen.isoformat(),
        "format": entry.format,
        **({} if entry.layout is None else {"layout": entry.layout}),
        "kind": entry.kind,
    }
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def id_of_line(line: bytes) -> int | None:
    """The id of a whole line without parsing it; `None` for one that a crash cut short.

    Quotes within a text are escaped, so only a whole line ends like one.
    """
    if not (line.startswith(_PREFIX) and line.endswith(_ENDS)):
        return None
    return int(line[len(_PREFIX) : _ID_END], 16)


def from_fields(fields: dict[str, Any], retried: dict[str, datetime]) -> Entry:
    """The entry of a line's fields, with the time it was replayed, by id."""
    encoded = fields.pop("raw_base64", None)
    raw = base64.b64decode(encoded) if encoded is not None else fields.pop("raw").encode()
    fields.pop("raw", None)
    first_seen = datetime.fromisoformat(fields.pop("first_seen"))
    return Entry(raw=raw, first_seen=first_seen, retried=retried.get(fields["id"]), **fields)


def _text(text: str) -> str:
    """Text that can be written: a file's name, and what was found in it, need not be UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
