"""Whether the session touched the item itself, or its neighbours in this list."""

from __future__ import annotations

import math

from feature_repo.arrays import Floats, Ints
from serving.scoring.compiled import compiled
from serving.scoring.signal import Asked, Family, Signal
from serving.scoring.signal_groups import BASE, SESSION

HALF_LIFE_S = 600.0


def fill(out: Floats, asked: Asked) -> None:
    """Write all columns in one pass over candidates and touched items."""
    _fill(out, asked.rows.rows, asked.rows.touched, asked.times_ms, asked.now_ms)


@compiled
def _fill(out: Floats, rows: Ints, touched: Ints, times_ms: Floats, now_ms: float) -> None:
    """Fill the columns in the order of the signals below. The rows are in base order."""
    last, any_touched = -1, False
    for i in range(len(rows)):
        for column in range(7):
            out[column, i] = 0.0
        for place in range(len(touched)):
            if rows[i] >= 0 and touched[place] == rows[i]:
                age_s = max((now_ms - times_ms[place]) / 1000.0, 0.0)
                out[0, i] = 1.0
                out[1, i] = 0.5 ** (age_s / HALF_LIFE_S)
                out[2, i] = 1.0 / (1.0 + place)
                out[3, i] = 1.0 if place == 0 else 0.0
                last = i if place == 0 else last
                any_touched = True
                break
    for i in range(len(rows)):
        if last >= 0 and i != last:
            out[4 if i > last else 5, i] = 1.0 / abs(i - last)
        if not any_touched:
            out[6, i] = -math.log2(i + 2.0)


FAMILY = Family(
    (
        Signal("touched", SESSION, "1 if the session touched the item, else 0", "its touch in this session"),
        Signal(
            "touched_recently",
            SESSION,
            "2^(−age / 10 min) of the last touch, else 0",
            "how recently this session touched it",
        ),
        Signal(
            "touch_rank",
            SESSION,
            "1/(1 + r), with r the number of items touched since; 0 if untouched",
            "its rank among the items this session touched",
        ),
        Signal(
            "last_touched",
            SESSION,
            "1 for the item touched last, else 0",
            "being the item this session touched last",
        ),
        Signal(
            "below_last",
            SESSION,
            "1/d for an item d places below the last touched one in the base order, else 0",
            "following the last touched item in the list",
        ),
        Signal(
            "above_last",
            SESSION,
            "1/d for an item d places above the last touched one in the base order, else 0",
            "preceding the last touched item in the list",
        ),
        Signal(
            "position_untouched",
            BASE,
            "`position` in a list without any touched item, else 0",
            "its position in a list without touched items",
        ),
    ),
    fill,
)
