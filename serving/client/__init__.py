"""The client of the ranking service, also built as a distribution of its own, `headrace-client`.

This package imports nothing of Headrace: `pyproject.toml` beside this file builds it as `headrace_client`,
which needs httpx and msgspec alone. Names are imported at their first use: serving takes the request ids of
this package, and httpx would cost each of its starts a tenth of a second.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import AsyncRankClient, RankClient
    from .protocol import ClientError, ClientOptions, Ranked, Ranking, RankOptions, Sent

__all__ = [
    "RankClient",
    "AsyncRankClient",
    "Ranking",
    "Ranked",
    "RankOptions",
    "Sent",
    "ClientOptions",
    "ClientError",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    room = ".client" if name in {"RankClient", "AsyncRankClient"} else ".protocol"
    return getattr(import_module(room, __name__), name)
