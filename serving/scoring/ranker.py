"""Simple rankers: one signal orders the list, and the base order breaks ties."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from serving.scoring.blend import TIE_BREAK, Blend, Gate
from serving.scoring.signal_groups import BASE
from serving.scoring.signals import group_of

WIDE = 1e6
"""Scale of a rule's signal: large enough that no value is clipped."""
SERVES_ALL_ALIKE = frozenset({"base", "item"})


@dataclass(frozen=True)
class Ranker:
    """One simple rule.

    Attributes:
        name: used in ``flags set ranker=NAME``.
        sentence: description for people.
        signal: a signal, or one of its members (``popularity:short``); the members of a signal are summed.
        descending: whether the largest value comes first.
        then: signals that order the rest, at half the weight.
    """

    name: str
    sentence: str
    signal: str
    descending: bool = True
    then: tuple[str, ...] = ()

    def columns(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the columns that it orders by; none if the data does not have its signal."""
        signals = (self.signal, *self.then)
        return tuple(name for name in names if any(name == s or name.startswith(f"{s}:") for s in signals))

    def blend(self, names: tuple[str, ...], version: str = "", gate: Gate | None = None) -> Blend:
        """Express the rule as a blend, so that it is served, explained and replayed like one.

        Args:
            names: columns of the matrix; without the rule's signal the result is the base order.
        """
        columns = tuple(name for name in self.columns(names) if name != BASE)
        sign = 1.0 if self.descending else -1.0
        return Blend(
            version=version or self.name,
            kind="rule" if columns else "base",
            names=(BASE, *columns),
            scales=(1.0,) + (WIDE,) * len(columns),
            weights=(
                TIE_BREAK if columns else 1.0,
                *(sign * WIDE * (0.5 if name in self.then else 1.0) for name in columns),
            ),
            gate=gate or Gate(passed=False, reason=self.sentence),
            ranker=self.name,
        )


@lru_cache(maxsize=64)
def personal(names: tuple[str, ...]) -> bool:
    """Whether an order by these signals depends on the user or session."""
    return any(group_of(name) not in SERVES_ALL_ALIKE for name in names)
