"""Items most similar to the last touched item first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("content_last", "Items most similar to the last touched item first.", "content_last")
