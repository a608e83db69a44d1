"""Writes a proposal as TOML that `streaming.mapping.reading` reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from streaming.mapping.propose import Proposal

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_WIDEST = 100


def to_toml(proposal: Proposal, head: str) -> str:
    """Return the text of a mapping, with the points to check as comments."""
    lines = [f"# {head}", *(f"# check: {_comment(note)}" for note in proposal.notes)]
    lines += [f"{_key(name)} = {_value(value)}" for name, value in proposal.top.items()]
    for section, fields in proposal.sections.items():
        lines += ["", f"[{section}]", *(f"{_key(name)} = {_value(value)}" for name, value in fields.items())]
        if section == "event" and proposal.types:
            lines += ["", "[event_types]"]
            lines += [f"{_key(name)} = {_value(value)}" for name, value in proposal.types.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case list():
            parts = [_value(part) for part in value]
            line = f"[{', '.join(parts)}]"
            return line if len(line) <= _WIDEST else "[\n" + "".join(f"  {part},\n" for part in parts) + "]"
        case Mapping():
            return "{ " + ", ".join(f"{_key(n)} = {_value(v)}" for n, v in value.items()) + " }"
    return str(value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    """Encode a TOML string; JSON's escapes are TOML's, except for DEL and halves of surrogate pairs."""
    whole = text.encode("utf-8", "replace").decode()
    return json.dumps(whole, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text.encode("utf-8", "replace").decode())
