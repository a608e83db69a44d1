"""Rows of the online store: as values, and as the bytes that the store holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec import Struct

from feature_repo.clock import micros_of
from feature_repo.group import FeatureGroup
from feature_repo.online.layout import layout_of


@dataclass(frozen=True, slots=True)
class OnlineRow:
    """One entity of one group.

    Attributes:
        key: value of the group's join key.
        values: features by name; absent ones read as `None`. Timestamps hold whole seconds in the store.
        event_time: what the row was computed from; decides which of two writes is the newer.
    """

    key: str
    values: Mapping[str, Any]
    event_time: datetime


class EncodedRow(Struct, frozen=True, gc=False):
    """An `OnlineRow` as the store holds it: value by value, or framed for Redis in the same step.

    Attributes:
        micros: event time, microseconds since 1970.
        raws: bytes of each feature in the group's order (`ViewLayout.encode`).
        pairs: instead of them, what an HSET takes (`RowCommands.pairs`).
    """

    key: str
    micros: int
    raws: Sequence[bytes] = ()
    pairs: bytes = b""

    @property
    def values(self) -> Sequence[bytes]:
        """Bytes of each feature in the group's order, in whichever way the row was made."""
        return bulk_strings(self.pairs)[3::2] if self.pairs else self.raws


def bulk_strings(raw: bytes) -> list[bytes]:
    """The bulk strings of Redis's protocol that stand one after another."""
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        start = raw.index(b"\r\n", at) + 2
        end = start + int(raw[at + 1 : start - 2])
        found.append(raw[start:end])
        at = end + 2
    return found


def encode_rows(group: FeatureGroup, rows: Iterable[OnlineRow]) -> list[EncodedRow]:
    """Rows encoded, of several with one key only the newest."""
    layout = layout_of(group)
    newest: dict[str, tuple[int, OnlineRow]] = {}
    for row in rows:
        micros = micros_of(row.event_time)
        held = newest.get(row.key)
        if held is None or micros >= held[0]:
            newest[row.key] = micros, row
    return [EncodedRow(key, micros, layout.encode(row.values)) for key, (micros, row) in newest.items()]
