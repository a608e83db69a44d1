"""Most engagement with the long half-life first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("popular_long", "Most engagement with the long half-life first.", "popularity:long")
