"""Items most often co-visited with the last touched item first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker(
    "covisit_last", "Items most often co-visited with the last touched item first.", "covisit_last"
)
