"""What most often goes with the last three items first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker(
    "covisit_recent", "What most often goes with the last three touched items first.", "covisit_recent"
)
