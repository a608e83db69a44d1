"""Items most often co-visited with the last three touched items first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker(
    "covisit_recent", "Items most often co-visited with the last three touched items first.", "covisit_recent"
)
