"""Decoded rows, kept with the bytes they came from, so that an unchanged row is not decoded again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias

from feature_repo.online.rows import OnlineRow

Decode: TypeAlias = Callable[[list[Any]], tuple[dict[str, Any], datetime] | None]


class KeptRows:
    """Rows of one view by key. Safe to use from several threads: at worst a row is decoded twice.

    Args:
        decode: values and event time of what the store answered; `None` where there is no row.
        most: rows kept; a full memory is cleared. 0: none.
    """

    def __init__(self, decode: Decode, most: int) -> None:
        self._decode = decode
        self._most = most
        self._rows: dict[str, tuple[list[Any], OnlineRow]] = {}

    def row(self, key: str, answered: list[Any]) -> OnlineRow | None:
        """The row of an answer; the very same as last time where the answer is, byte for byte.

        Raises:
            StoreError: a value is damaged.
        """
        held = self._rows.get(key)
        if held is not None and held[0] == answered:
            return held[1]
        decoded = self._decode(answered)
        if decoded is None:
            return None
        row = OnlineRow(key, *decoded)
        if self._most:
            if len(self._rows) >= self._most:
                self._rows.clear()
            self._rows[key] = (answered, row)
        return row
