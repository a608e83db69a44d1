"""The circuit breaker: stops calling a failing dependency, probes it now and then, and closes by itself.

No maintained asyncio library counts a failure *share* over a sliding window with a minimum volume
(docs/adr/0061), so this is a small state machine. Not thread-safe: each breaker belongs to one event loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic


class State(StrEnum):
    """Closed allows every call, open none, half-open one probe at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True)
class BreakerRules:
    """When a breaker opens and how it closes.

    Attributes:
        window: number of recent outcomes that count.
        volume: minimum number of outcomes before it can open.
        share: share of failures above which it opens.
        open_s: seconds without calls before the first probe.
        probes: consecutive successful probes before it closes.
    """

    window: int = 100
    volume: int = 20
    share: float = 0.05
    open_s: float = 1.0
    probes: int = 3


class Breaker:
    """Guards one dependency: call `allow` before each call, and `record` with its outcome.

    Args:
        name: the dependency, for metrics.
        clock: monotonic seconds.
        on_change: called with the name and the new state.
    """

    def __init__(
        self,
        name: str,
        rules: BreakerRules | None = None,
        clock: Callable[[], float] = monotonic,
        on_change: Callable[[str, State], None] = lambda _name, _state: None,
    ) -> None:
        self.name = name
        self.state = State.CLOSED
        self._rules = rules or BreakerRules()
        self._clock = clock
        self._on_change = on_change
        self._outcomes: deque[bool] = deque(maxlen=self._rules.window)
        self._failures = 0
        self._since = 0.0
        self._probing = False
        self._succeeded = 0

    def allow(self) -> bool:
        """Whether the call may be made. After `True` the caller must call `record` or `release`."""
        if self.state is State.CLOSED:
            return True
        if self.state is State.OPEN:
            if self._clock() - self._since < self._rules.open_s:
                return False
            self._move(State.HALF_OPEN)
        # A probe that never reports, because its task died, must not keep the breaker open forever.
        if self._probing and self._clock() - self._since < self._rules.open_s:
            return False
        self._probing, self._since = True, self._clock()
        return True

    def release(self) -> None:
        """Report that the call was not made, or says nothing about the dependency."""
        self._probing = False

    def record(self, ok: bool) -> None:
        """Record the outcome of an allowed call."""
        if self.state is State.CLOSED:
            self._count(ok)
        elif self.state is State.HALF_OPEN:
            self._probed(ok)

    def reset(self) -> None:
        """Close the breaker and forget past failures."""
        self._outcomes.clear()
        self._failures = 0
        self._move(State.CLOSED)

    def _count(self, ok: bool) -> None:
        if len(self._outcomes) == self._rules.window and not self._outcomes[0]:
            self._failures -= 1
        self._outcomes.append(ok)
        self._failures += not ok
        held = len(self._outcomes)
        if held >= self._rules.volume and self._failures > self._rules.share * held:
            self._open()

    def _probed(self, ok: bool) -> None:
        self._probing = False
        if not ok:
            self._open()
            return
        self._succeeded += 1
        if self._succeeded >= self._rules.probes:
            self.reset()

    def _open(self) -> None:
        self._since = self._clock()
        self._move(State.OPEN)

    def _move(self, state: State) -> None:
        self.state = state
        self._probing = False
        self._succeeded = 0
        self._on_change(self.name, state)
