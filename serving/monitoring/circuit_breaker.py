"""The circuit breaker: stop asking what fails, ask again now and then, close by itself.

No kept asyncio library counts a failure *share* over a sliding window with a minimum volume (docs/adr/0061),
so this is a small state machine of its own. Not thread-safe: each belongs to one event loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic


class State(StrEnum):
    """Closed lets everything through, open nothing, half-open a probe at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True)
class BreakerRules:
    """When a breaker opens and how it closes.

    Attributes:
        window: outcomes looked back on.
        volume: outcomes there must be before it can open.
        share: share of failures above which it opens.
        open_s: how long nothing is let through before a probe is.
        probes: probes in a row that must succeed for it to close.
    """

    window: int = 100
    volume: int = 20
    share: float = 0.05
    open_s: float = 1.0
    probes: int = 3


class Breaker:
    """Guards one dependency: ask `allow` before each call, tell `record` how it went.

    Args:
        name: the dependency, for metrics.
        clock: monotonic seconds.
        on_change: told the new state.
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
        """Whether the call may be made. A `True` must be followed by `record` or `release`."""
        if self.state is State.CLOSED:
            return True
        if self.state is State.OPEN:
            if self._clock() - self._since < self._rules.open_s:
                return False
            self._move(State.HALF_OPEN)
        # A probe that never reported (its task died) must not keep the breaker open for ever.
        if self._probing and self._clock() - self._since < self._rules.open_s:
            return False
        self._probing, self._since = True, self._clock()
        return True

    def release(self) -> None:
        """The call was not made, or says nothing about the dependency."""
        self._probing = False

    def record(self, ok: bool) -> None:
        """How an allowed call went."""
        if self.state is State.CLOSED:
            self._count(ok)
        elif self.state is State.HALF_OPEN:
            self._probed(ok)

    def reset(self) -> None:
        """Closed, with nothing held against the dependency."""
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
