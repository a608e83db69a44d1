"""Keep the base order."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("base", "Keep the base order.", "base")
