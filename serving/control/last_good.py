"""Copies of what served last, for a start that finds the original broken or gone."""

from __future__ import annotations

from pathlib import Path

from feature_repo.files import write_file


def keep(copy: Path, content: bytes) -> None:
    """Write a copy whole, unless it is there already.

    Raises:
        OSError: it cannot be written; the last copy stays.
    """
    if not copy.exists() or copy.read_bytes() != content:
        write_file(copy, content, parents=True)
