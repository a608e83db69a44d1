"""Where Feast 0.67 puts a row: entity keys, Redis hash fields, SQLite tables.

A Redis key is the serialized entity key (`entity_key_serialization_version: 3`) and the project's name; all
views of one entity share the hash. A field is the little-endian murmur3 of ``view:feature``, the event time
is in ``_ts:view``. A SQLite table is ``<project>_<view>`` with one line per entity key and feature.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

import mmh3

from feature_repo.group import FeatureGroup
from feature_repo.online.decoding import decode_values
from feature_repo.online.encoding import ENCODERS
from feature_repo.online.timestamps import decode_time

PROJECT = "headrace"
_PROJECT = PROJECT.encode()
_STRING = 2
_U32 = struct.Struct("<I")


@lru_cache
def _key_prefix(join_key: str) -> bytes:
    name = join_key.encode()
    return struct.pack("<3I", 1, _STRING, len(name)) + name + struct.pack("<I", _STRING)


def entity_key_head(join_key: str, length: int) -> bytes:
    """Return the bytes before the text of an entity key, by the length of the text."""
    return _key_prefix(join_key) + _U32.pack(length)


def entity_key(join_key: str, value: str) -> bytes:
    """Feast's serialized entity key (version 3) of one text key."""
    raw = value.encode()
    return entity_key_head(join_key, len(raw)) + raw


def redis_key(join_key: str, value: str) -> bytes:
    """Key of the Redis hash that holds every view of an entity."""
    return entity_key(join_key, value) + _PROJECT


def field_hash(view: str, feature: str) -> bytes:
    """Field of one feature in the Redis hash."""
    return _U32.pack(mmh3.hash(f"{view}:{feature}", signed=False))


def time_field(view: str) -> bytes:
    """Field of the event time of one view in the Redis hash."""
    return f"_ts:{view}".encode()


def table_name(view: str) -> str:
    """SQLite table of one view."""
    return f"{PROJECT}_{view}"


@dataclass(frozen=True, eq=False)
class ViewLayout:
    """All of a group's layout, computed once.

    Attributes:
        names: features, in the group's order.
        fields: their Redis fields, in that order.
        time_field: the Redis field of the event time; ask for ``(*fields, time_field)`` in one HMGET.
        encoders: their encoders, in that order.
    """

    join_key: str
    names: tuple[str, ...]
    fields: tuple[bytes, ...]
    time_field: bytes
    table: str
    encoders: tuple[Callable[[Any], bytes], ...]

    def encode(self, values: Mapping[str, Any]) -> list[bytes]:
        """Bytes of each feature, in order; absent and `None` are no bytes. Unknown names are an error.

        Raises:
            KeyError: `values` names a feature the group does not declare.
        """
        if unknown := values.keys() - set(self.names):
            msg = f"{sorted(unknown)[0]!r} is no feature of {self.table}"
            raise KeyError(msg)
        get = values.get
        return [
            b"" if (value := get(name)) is None else encoder(value)
            for name, encoder in zip(self.names, self.encoders, strict=True)
        ]

    def decode(self, raws: list[bytes | None]) -> tuple[dict[str, Any], datetime] | None:
        """Values and event time of one HMGET of ``(*fields, time_field)``; `None` where there is no row."""
        stamp = raws[-1]
        if stamp is None:
            return None
        return decode_values(self.names, raws), decode_time(stamp)


@cache
def layout_of(group: FeatureGroup) -> ViewLayout:
    """The layout of a group's view."""
    view = group.view_name
    return ViewLayout(
        join_key=group.entity.join_key,
        names=group.feature_names,
        fields=tuple(field_hash(view, name) for name in group.feature_names),
        time_field=time_field(view),
        table=table_name(view),
        encoders=tuple(ENCODERS[f.dtype] for f in group.features),
    )
