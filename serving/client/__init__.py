"""The client of the ranking service, also published as the separate distribution `headrace-client`.

This package imports nothing else of Headrace. The `pyproject.toml` beside this file builds it as
`headrace_client`, which needs only httpx and msgspec. Names are imported at first use, because serving uses
this package's request ids and importing httpx would add 0.1 s to each of its starts.
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
