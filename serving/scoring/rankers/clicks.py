"""Most engagement of all time first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("clicks", "Most engagement of all time first.", "log_clicks")
