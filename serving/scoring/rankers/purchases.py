"""Most often bought first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("purchases", "Most often bought first.", "log_purchases")
