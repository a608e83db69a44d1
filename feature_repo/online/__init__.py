"""Feast's online layout on Redis and SQLite: encode, write monotonely, read in one round trip."""

from __future__ import annotations

from feature_repo.online.layout import PROJECT, ViewLayout, layout_of, redis_key
from feature_repo.online.store import EncodedRow, OnlineRow, OnlineStore, online_path, open_store
from feature_repo.online.unwire import decode_value
from feature_repo.online.wire import encode_value

__all__ = [
    "OnlineRow",
    "EncodedRow",
    "OnlineStore",
    "open_store",
    "online_path",
    "PROJECT",
    "ViewLayout",
    "layout_of",
    "redis_key",
    "encode_value",
    "decode_value",
]
