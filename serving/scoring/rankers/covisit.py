"""What sessions with the last items touched unusually often first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("covisit", "What sessions with the last items touched unusually often first.", "covisit")
