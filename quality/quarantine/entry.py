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
        id: derived from source, place and bytes: the same rejection has the same id.
        raw: the original bytes.
        source: the file, or the door through which the record came.
        line: line (text), row (tables) or byte offset (log segments) in the source; `None` if it has none.
        code, field, message: the reason; the code is stable.
        first_seen: when the record was first rejected.
        format, kind, layout: how the source was read, so that the bytes can be read again.
        retried: when it was successfully replayed, else `None`.
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
    """Create the entry of a rejection; escape text that cannot be written to a file."""
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
    """Encode the entry as one line of JSON. `id_of_line` relies on `id` being first and `kind` last."""
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
    """Return the id of a whole line without parsing it; `None` for a line that a crash truncated.

    Quotes within a text are escaped, so only a whole line ends this way.
    """
    if not (line.startswith(_PREFIX) and line.endswith(_ENDS)):
        return None
    return int(line[len(_PREFIX) : _ID_END], 16)


def from_fields(fields: dict[str, Any], retried: dict[str, datetime]) -> Entry:
    """Create an entry from a line's fields and the replay times by id."""
    encoded = fields.pop("raw_base64", None)
    raw = base64.b64decode(encoded) if encoded is not None else fields.pop("raw").encode()
    fields.pop("raw", None)
    first_seen = datetime.fromisoformat(fields.pop("first_seen"))
    return Entry(raw=raw, first_seen=first_seen, retried=retried.get(fields["id"]), **fields)


def _text(text: str) -> str:
    """Return writable text: a file's name and contents need not be UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
