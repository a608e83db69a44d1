"""What most often comes next after the last three items first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker(
    "next_click_recent",
    "What most often comes next after the last three items first.",
    "next_recent",
)
