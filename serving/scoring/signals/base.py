"""The caller's ranking: base score and position."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from feature_repo.arrays import Floats
from serving.scoring.signal import Asked, Family, Signal
from serving.scoring.signal_groups import BASE


def fill(out: Floats, asked: Asked) -> None:
    """Write the base scores and the position discounts."""
    out[0] = asked.base
    out[1] = _discounts(len(asked))


@lru_cache(maxsize=256)
def _discounts(n: int) -> Floats:
    falling: Floats = -np.log2(np.arange(n) + 2.0)
    return falling


FAMILY = Family(
    (
        Signal(
            "base",
            BASE,
            "base score, scaled to [0, 1] within the request; from the order if scores are missing or equal",
            "its base score",
        ),
        Signal("position", BASE, "−log2(position + 2) in the base order", "its position in the base order"),
    ),
    fill,
    of_items=False,
)
