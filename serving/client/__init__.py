"""The client of the ranking service, also built as a distribution of its own, `headrace-client`.

This package imports nothing of Headrace: `pyproject.toml` beside this file builds it as `headrace_client`,
which needs httpx and msgspec alone.
"""

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
