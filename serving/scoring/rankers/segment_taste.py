"""What the user's segment likes first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("segment_taste", "What the user's segment likes first.", "segment_log_odds")
