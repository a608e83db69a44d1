"""Highest click-through rate first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("ctr", "Highest click-through rate first.", "log_ctr")
