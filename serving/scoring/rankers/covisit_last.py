"""What most often goes with the last touched item first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("covisit_last", "What most often goes with the last touched item first.", "covisit_last")
