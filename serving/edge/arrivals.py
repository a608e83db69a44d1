"""Estimates when bytes arrived, as well as a busy event loop allows."""

from __future__ import annotations

import asyncio
from time import perf_counter


class Arrivals:
    """Estimates how long bytes have waited in the sockets of one event loop."""

    def __init__(self) -> None:
        self._reading = False
        self._ran: float | None = None

    def of(self, loop: asyncio.AbstractEventLoop) -> float:
        """Estimate the `perf_counter` time at which the bytes just read arrived.

        While the loop processes earlier input, new bytes wait in the socket unnoticed. On average they
        arrived in the middle of that run.
        """
        now = perf_counter()
        if not self._reading:
            self._reading = True
            loop.call_soon(self._run, loop)
        return now if self._ran is None else (self._ran + now) / 2

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Mark the start of a run. The loop polls its sockets again before it calls `_rest`."""
        self._reading = False
        self._ran = perf_counter()
        loop.call_soon(self._rest)

    def _rest(self) -> None:
        """Mark the loop as idle if nothing arrived meanwhile: the next bytes are read as they arrive."""
        if not self._reading:
            self._ran = None
