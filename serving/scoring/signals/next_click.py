"""How likely the candidate is touched next, after what this session touched last."""

from __future__ import annotations

import numpy as np

from feature_repo.arrays import Floats
from serving.scoring.signal import Asked, Family, Signal
from serving.scoring.signal_groups import SESSION
from serving.scoring.signals.covisit import PRIOR, RECENT


def fill(out: Floats, asked: Asked) -> None:
    """Write the logarithm of the chance after the last item, and its mean over the last three."""
    rows = asked.rows
    counts, totals = rows.steps()
    if not len(totals):
        out[:] = np.nan
        return
    share = rows.share[rows.places][:, None]
    last = slice(0, RECENT)
    chances = np.log((counts[:, last] + PRIOR * share) / (totals[last] + PRIOR))
    out[0] = chances[:, 0]
    out[1] = chances.mean(axis=1)


FAMILY = Family(
    (
        Signal(
            "next_last",
            SESSION,
            "log((c + 3p)/(n + 3)): how likely it is touched next after the last touched item",
            "how often it is the next after the item touched last",
        ),
        Signal(
            "next_recent",
            SESSION,
            "mean of `next_last` over the last 3 touched items",
            "how often it is the next after the items touched last",
        ),
    ),
    fill,
)
