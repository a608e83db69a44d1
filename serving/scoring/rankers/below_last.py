"""Items that follow the last touched item in the list first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("below_last", "Items that follow the last touched item in the list first.", "below_last")
