"""A bounded memory of what short pieces are made into: what a stream meets repeats."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V", bound=Sized)

_REMEMBERED = 1 << 16
_SHORT = 256


class Memory(dict[K, V]):
    """Results of `make` by argument; cleared when full. Long results are not kept.

    `Memory(make).__getitem__` costs a dictionary look-up, half of what `functools.lru_cache` takes.
    """

    def __init__(self, make: Callable[[K], V]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, wanted: K) -> V:
        made = self._make(wanted)
        if len(made) <= _SHORT:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[wanted] = made
        return made
