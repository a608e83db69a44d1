"""What most often comes next after the last item first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("next_click", "What most often comes next after the last item first.", "next_last")
