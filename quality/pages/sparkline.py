"""A small plot of a distribution or of a rate over days, as inline SVG in the page's colours."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

WIDTH, HEIGHT = 160, 44


@dataclass(frozen=True)
class Spark:
    """The data to draw.

    Attributes:
        kind: ``shares``: shares of the reference and of the current values by bin; ``days``: the reference
            days, then the days under judgement.
    """

    kind: Literal["shares", "days"]
    before: tuple[float, ...]
    after: tuple[float, ...]


def svg(spark: Spark, label: str) -> str:
    """Return the plot, or a note if there are no values."""
    top = max((*spark.before, *spark.after), default=0.0)
    if not top > 0:
        return '<span class="quiet">no values</span>'
    drawn = _shares(spark, top) if spark.kind == "shares" else _days(spark, top)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{html.escape(label)}">{drawn}</svg>'
    )


def _shares(spark: Spark, top: float) -> str:
    """Draw bars for the reference and an outline of the current values over them."""
    count = max(len(spark.before), len(spark.after))
    step = WIDTH / count
    bars = "".join(
        f'<rect x="{n * step:.1f}" y="{_y(share, top):.1f}" width="{step:.1f}" '
        f'height="{HEIGHT - _y(share, top):.1f}" fill="var(--before)"/>'
        for n, share in enumerate(spark.before)
    )
    corners = [(x, _y(share, top)) for n, share in enumerate(spark.after) for x in (n * step, (n + 1) * step)]
    return f"{bars}{_line(corners, 'after')}"


def _days(spark: Spark, top: float) -> str:
    count = len(spark.before) + len(spark.after)
    step = WIDTH / max(count - 1, 1)
    points = [(n * step, _y(value, top)) for n, value in enumerate((*spark.before, *spark.after))]
    split = len(spark.before)
    # The judged part starts at the last reference day, so that the line has no gap.
    return _line(points[:split], "before") + _line(points[max(split - 1, 0) :], "after")


def _y(value: float, top: float) -> float:
    return HEIGHT - 2 - (HEIGHT - 4) * min(max(value, 0.0), top) / top


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline points="{path}" fill="none" stroke="var(--{colour})" stroke-width="2"/>' if path else ""
    )
