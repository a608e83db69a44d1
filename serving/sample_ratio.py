"""Sample-ratio mismatch: do the arms hold as many units as they should? If not, the experiment is broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache

import xxhash

ALARM = 0.001
"""Chance under the intended shares below which a ratio counts as mismatched."""
MIN_UNITS = 100
"""Units below which no alarm is raised."""
MAX_UNITS = 100_000


@cache
def _chi_square() -> Callable[[float, float], float]:
    from scipy.special import chdtrc  # noqa: PLC0415 - half a second to import: only where it serves

    tail: Callable[[float, float], float] = chdtrc
    return tail


def warm_statistics() -> None:
    """Import what the first scrape would else import while rankings wait."""
    _chi_square()


class SampleRatio:
    """Units seen per arm of one experiment, each once, in bounded memory.

    Beyond `MAX_UNITS` a hash keeps every second unit, then every fourth, and so on: what is kept stays a fair
    sample of the units.

    Args:
        weights: relative size of each arm, as declared.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = dict(weights)
        self._arm_of: dict[int, str] = {}
        self._mask = 0

    def see(self, unit: str, arm: str) -> None:
        """A unit was exposed to an arm; the first arm it is seen in counts."""
        if arm not in self._weights:
            return
        code = xxhash.xxh3_64_intdigest(unit.encode())
        if code & self._mask or code in self._arm_of:
            return
        self._arm_of[code] = arm
        if len(self._arm_of) > MAX_UNITS:
            self._mask = self._mask * 2 + 1
            self._arm_of = {c: a for c, a in self._arm_of.items() if not c & self._mask}

    @property
    def counts(self) -> dict[str, int]:
        """Units by arm."""
        found = Counter(list(self._arm_of.values()))  # one step, so that others may go on adding
        return {arm: found[arm] for arm in self._weights}

    @property
    def p_value(self) -> float:
        """Chance of a deviation this large under the declared weights (chi-square); 1 before `MIN_UNITS`."""
        counts = self.counts
        total = sum(counts.values())
        if total < MIN_UNITS:
            return 1.0
        whole = sum(self._weights.values())
        expected = {arm: total * weight / whole for arm, weight in self._weights.items()}
        distance = sum((counts[arm] - wanted) ** 2 / wanted for arm, wanted in expected.items())
        return float(_chi_square()(len(expected) - 1, distance))

    @property
    def mismatched(self) -> bool:
        """Whether the ratio is off beyond chance."""
        return self.p_value < ALARM
