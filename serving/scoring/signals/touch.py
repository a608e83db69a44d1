"""Whether the session touched the item, and how recently."""

from __future__ import annotations

from feature_repo.arrays import Floats, Ints
from serving.scoring.compiled import compiled
from serving.scoring.signal import Asked, Family, Signal
from serving.scoring.signal_groups import SESSION

HALF_LIFE_S = 600.0


def fill(out: Floats, asked: Asked) -> None:
    """Write 1 for touched items, and their recency: 1 just now, halved every ten minutes."""
    _fill(out, asked.rows.rows, asked.rows.touched, asked.times_ms, asked.now_ms)


@compiled
def _fill(out: Floats, rows: Ints, touched: Ints, times_ms: Floats, now_ms: float) -> None:
    for i in range(len(rows)):
        out[0, i] = out[1, i] = 0.0
        for place in range(len(touched)):
            if touched[place] == rows[i]:
                age_s = max((now_ms - times_ms[place]) / 1000.0, 0.0)
                out[0, i] = 1.0
                out[1, i] = 0.5 ** (age_s / HALF_LIFE_S)
                break


FAMILY = Family(
    (
        Signal(
            "touched", SESSION, "1 if the session touched the item, else 0", "this session having touched it"
        ),
        Signal(
            "touched_recently",
            SESSION,
            "2^(−age / 10 min) of the last touch, else 0",
            "how recently this session touched it",
        ),
    ),
    fill,
)
