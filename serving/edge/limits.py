"""What clients may take: bytes, seconds, connections; and the file descriptors that bound the last."""

from __future__ import annotations

import logging
import resource
from dataclasses import dataclass

from feature_repo.settings import Settings

log = logging.getLogger(__name__)

RESERVED = 256
"""File descriptors kept for the event log, the store and files."""
MOST_DESCRIPTORS = 65_536
SWEEP_S = 0.5


@dataclass(frozen=True)
class Limits:
    """What a client may take.

    Attributes:
        connections: open at once.
        url_bytes, head_bytes: of the URL; of request line and headers together.
        body_bytes: longest body that a route reads.
        head_s, body_s: from the first byte of a request, or the opening of the connection, to the end of the
            headers; from there to the end of the body.
        idle_s: between requests.
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
        """How often connections that are over their time are looked for."""
        return min(SWEEP_S, min(self.head_s, self.body_s, self.idle_s) / 4)


def raise_descriptors() -> int:
    """Let this process, and those it starts, open as many files as it may; how many that is."""
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
    """What clients may take, with descriptors left for everything else.

    Args:
        descriptors: files this process may have open.
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
