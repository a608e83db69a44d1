"""Items that match the taste of the user's segment first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker(
    "segment_taste", "Items that match the taste of the user's segment first.", "segment_log_odds"
)
