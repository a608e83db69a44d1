"""When bytes came in, as well as a busy event loop can tell."""

from __future__ import annotations

import asyncio
from time import perf_counter


class Arrivals:
    """Tells since when bytes have waited in the sockets of one event loop."""

    def __init__(self) -> None:
        self._reading = False
        self._ran: float | None = None

    def of(self, loop: asyncio.AbstractEventLoop) -> float:
        """`perf_counter` time at which the bytes just read came in.

        While the loop runs what was read before, bytes wait in the socket, and nobody is told since when: on
        average since the middle of that run.
        """
        now = perf_counter()
        if not self._reading:
            self._reading = True
            loop.call_soon(self._run, loop)
        return now if self._ran is None else (self._ran + now) / 2

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop begins to run what was read; it looks at its sockets again before it calls `_rest`."""
        self._reading = False
        self._ran = perf_counter()
        loop.call_soon(self._rest)

    def _rest(self) -> None:
        """Nothing more came meanwhile: the loop will wait, and what it reads then has just come in."""
        if not self._reading:
            self._ran = None
