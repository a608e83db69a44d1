"""Copies of what served last, for a start that finds the original broken or gone."""

from __future__ import annotations

from pathlib import Path


def keep(copy: Path, content: bytes) -> None:
    """Write a copy whole, unless it is there already.

    Raises:
        OSError: it cannot be written; the last copy stays.
    """
    try:
        if copy.read_bytes() == content:
            return
    except FileNotFoundError:
        copy.parent.mkdir(parents=True, exist_ok=True)
    aside = copy.with_name(f".{copy.name}.tmp")
    aside.write_bytes(content)
    aside.replace(copy)
