"""Signals of the item alone, stored with the item in the columns of `ItemRows.alone`."""

from __future__ import annotations

from feature_repo.arrays import Floats
from serving.scoring.signal import Asked, Each, Family, Signal
from serving.scoring.signal_groups import ITEM


def fill(out: Floats, asked: Asked) -> None:
    """Copy the stored columns."""
    out[:] = asked.alone


FAMILY = Family(
    (
        Signal(
            "log_ctr",
            ITEM,
            "log of the smoothed click-through rate, (C + 10 g)/(I + 10)",
            "its click-through rate",
        ),
        Signal("log_clicks", ITEM, "log(1 + engagement) of all time", "its engagement of all time"),
        Signal(
            "popularity",
            ITEM,
            "log(1 + engagement decayed with the half-life)",
            "its recent popularity ({} half-life)",
            ("short", "mid", "long"),
        ),
        Signal(
            "log_debiased",
            ITEM,
            "log((C + 10)/(E + 10)), with E the clicks expected at the positions shown",
            "its click-through rate, corrected for position",
        ),
        Signal("log_age", ITEM, "log(1 + days since it was created or first seen)", "its age"),
        Signal("log_purchases", ITEM, "log(1 + purchases) of all time", "how often it was ever bought"),
        Signal("numeric", ITEM, "sign(x) · log(1 + |x|): price, age, votes", "its {}", Each.NUMERIC),
    ),
    fill,
)
