"""Lowest price first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("cheapest", "Lowest price first.", "numeric:price", descending=False)
