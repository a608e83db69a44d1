"""The online store as Headrace uses it: monotone writes, reads in one round trip, marks beside features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from feature_repo.group import FeatureGroup
from feature_repo.home import Home
from feature_repo.online.layout import layout_of
from feature_repo.online.timestamps import micros_of
from feature_repo.settings import Settings


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
    """An `OnlineRow` as the store holds it: value by value, or framed for Redis by who does both at once.

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


class OnlineStore(Protocol):
    """Feast's online layout, read and written without Feast. Safe to use from several threads.

    Every method raises `StoreError` when the store is unreachable, slow beyond its timeout, or answers
    garbage.
    """

    def write(self, group: FeatureGroup, rows: Sequence[OnlineRow]) -> int:
        """Write rows in one pipeline and return how many were taken.

        Monotone per key: a row whose event time is before the stored one is left out; an equal one replaces
        it, since a late event may change a profile without changing its time.
        """
        ...

    def write_encoded(self, group: FeatureGroup, rows: Sequence[EncodedRow], *, check: bool = True) -> int:
        """`write` of rows encoded already; each key at most once.

        Args:
            check: leave out what is older than the stored row. A key's only writer, who knows what it wrote
                last, saves the round trip.
        """
        ...

    def read(self, requests: Sequence[tuple[FeatureGroup, str]]) -> list[OnlineRow | None]:
        """Rows of any groups and keys in one round trip, in the order asked; `None` where there is none.

        The time-to-live is the caller's to apply: Feast does not enforce it online.
        """
        ...

    def delete(self, group: FeatureGroup, keys: Iterable[str]) -> int:
        """Remove a group's rows; returns how many there were."""
        ...

    def put_marks(self, marks: Mapping[str, bytes]) -> None:
        """Keep small facts beside the features (heartbeats); no Feast object knows of them."""
        ...

    def marks(self, prefix: str = "") -> dict[str, bytes]:
        """The facts kept, by name."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


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


def online_path(home: Home) -> str:
    """File of the SQLite online store."""
    return str(home.feast / "online.db")


def open_store(settings: Settings, home: Home, remembered: int = 0) -> OnlineStore:
    """The online store of the settings. Connects at first use.

    Args:
        remembered: decoded rows of each group that are kept where reads go through the store (SQLite).

    Raises:
        SettingsError: the Redis URL cannot be read.
    """
    if settings.online_store == "redis":
        from feature_repo.online.redis_store import RedisStore  # noqa: PLC0415 - only who uses Redis loads it

        return RedisStore.of(settings)
    from feature_repo.online.sqlite_store import SqliteStore  # noqa: PLC0415

    return SqliteStore(online_path(home), remembered=remembered)
