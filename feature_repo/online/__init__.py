"""Feast's online layout on Redis and SQLite: encode, write monotonely, read in one round trip."""

from __future__ import annotations

from feature_repo.online.decoding import decode_value
from feature_repo.online.encoding import encode_value
from feature_repo.online.layout import PROJECT, ViewLayout, layout_of, redis_key
from feature_repo.online.opening import online_path, open_store
from feature_repo.online.rows import EncodedRow, OnlineRow
from feature_repo.online.store import OnlineStore

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
