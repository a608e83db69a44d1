"""Most engagement with the middle half-life first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("popular_mid", "Most engagement with the middle half-life first.", "popularity:mid")
