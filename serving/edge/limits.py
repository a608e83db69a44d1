"""Limits of clients: bytes, seconds and connections, which are bounded by file descriptors."""

from __future__ import annotations

import logging
import resource
from dataclasses import dataclass

from feature_repo.settings import Settings

log = logging.getLogger(__name__)

RESERVED = 256
"""File descriptors reserved for the event log, the store and files."""
MOST_DESCRIPTORS = 65_536
SWEEP_S = 0.5


@dataclass(frozen=True)
class Limits:
    """The limits of clients.

    Attributes:
        connections: maximum number of open connections.
        url_bytes, head_bytes: maximum size of the URL, and of request line and headers together.
        body_bytes: maximum size of a body.
        head_s: time from the opening of the connection, or a request's first byte, to the end of the headers.
        body_s: time from there to the end of the body.
        idle_s: time between requests.
    """

    connections: int
    url_bytes: int
    head_bytes: int
    body_bytes: int
    head_s: float
    body_s: float
    idle_s: float

    @property
    def sweep_s(self) -> float:
        """Interval of the search for connections that timed out."""
        return min(SWEEP_S, min(self.head_s, self.body_s, self.idle_s) / 4)


def raise_descriptors() -> int:
    """Raise the limit of open files as far as allowed, and return it. Child processes inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:  # macOS permits less than it says
            log.warning("open files: the limit stays at %d (%s)", soft, error)
            return soft
        return wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


def limits_of(settings: Settings, descriptors: int) -> Limits:
    """Read the limits from the settings, and reserve descriptors for everything else.

    Args:
        descriptors: maximum number of open files of this process.
    """
    room = max(descriptors - RESERVED, 1)
    if settings.max_connections > room:
        log.warning(
            "HEADRACE_MAX_CONNECTIONS=%d: only %d fit into %d open files; raise the hard limit (ulimit -Hn)",
            settings.max_connections,
            room,
            descriptors,
        )
    return Limits(
        connections=min(settings.max_connections, room),
        url_bytes=settings.max_url_bytes,
        head_bytes=settings.max_header_bytes,
        body_bytes=settings.max_body_bytes,
        head_s=settings.header_timeout_s,
        body_s=settings.body_timeout_s,
        idle_s=settings.idle_timeout_s,
    )
