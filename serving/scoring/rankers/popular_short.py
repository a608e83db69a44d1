"""Most engagement with the short half-life first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("popular_short", "Most engagement with the short half-life first.", "popularity:short")
