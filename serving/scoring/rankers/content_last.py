"""What is most like the last touched item first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("content_last", "What is most like the last touched item first.", "content_last")
