"""The last touched item first, then its neighbours in the list."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker(
    "near_last",
    "The last touched item first, then its neighbours in the list.",
    "last_touched",
    then=("below_last", "above_last"),
)
