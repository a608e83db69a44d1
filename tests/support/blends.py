"""Blends for tests."""

from __future__ import annotations

from typing import Literal

from serving.scoring.blend import TIE_BREAK, Blend, Gate
from serving.scoring.signal_groups import BASE


def simple_blend(
    kind: Literal["base", "popularity"],
    gate: Gate,
    version: str,
    fitted_at: str = "",
    signal: str = "log_ctr",
) -> Blend:
    """The base order, or one signal of popularity with the base order to break ties."""
    names = (BASE,) if kind == "base" else (BASE, signal)
    return Blend(
        version=version,
        kind=kind,
        names=names,
        scales=(1.0,) * len(names),
        weights=(1.0,) if kind == "base" else (TIE_BREAK, 1.0),
        gate=gate,
        fitted_at=fitted_at,
    )
