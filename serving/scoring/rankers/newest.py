"""Newest first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("newest", "Newest first.", "log_age", descending=False)
