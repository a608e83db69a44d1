"""A simple rule as a ranker: one signal orders the list, the base order breaks ties."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from serving.scoring.blend import TIE_BREAK, Blend, Gate
from serving.scoring.signal_groups import BASE
from serving.scoring.signals import group_of

WIDE = 1e6
"""Scale of a rule's signal: wide enough that no value is cut, as the signals of a fitted blend are."""
SERVES_ALL_ALIKE = frozenset({"base", "item"})


@dataclass(frozen=True)
class Ranker:
    """One simple rule.

    Attributes:
        name: as in ``flags set ranker=NAME``.
        sentence: what it does, for people.
        signal: a signal, or one member of it (``popularity:short``); the members of a signal are summed.
        descending: whether the largest value comes first.
    """

    name: str
    sentence: str
    signal: str
    descending: bool = True

    def columns(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The columns that it orders by, of those there are; none where the data cannot tell."""
        return tuple(name for name in names if name == self.signal or name.startswith(f"{self.signal}:"))

    def blend(self, names: tuple[str, ...], version: str = "", gate: Gate | None = None) -> Blend:
        """The same order as a blend of signals, so that a rule is served, explained and replayed like one.

        Args:
            names: columns of the matrix; without those of the signal it is the base order.
        """
        columns = tuple(name for name in self.columns(names) if name != BASE)
        sign = 1.0 if self.descending else -1.0
        return Blend(
            version=version or self.name,
            kind="rule" if columns else "base",
            names=(BASE, *columns),
            scales=(1.0,) + (WIDE,) * len(columns),
            weights=(TIE_BREAK if columns else 1.0,) + (sign * WIDE,) * len(columns),
            gate=gate or Gate(passed=False, reason=self.sentence),
            ranker=self.name,
        )


@lru_cache(maxsize=64)
def personal(names: tuple[str, ...]) -> bool:
    """Whether an order by these signals depends on who asks."""
    return any(group_of(name) not in SERVES_ALL_ALIKE for name in names)
