"""Items with the highest co-visit lift after the last touched items first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker(
    "covisit", "Items with the highest co-visit lift after the last touched items first.", "covisit"
)
