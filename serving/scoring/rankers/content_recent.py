"""Items most similar to the last three touched items first."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker(
    "content_recent", "Items most similar to the last three touched items first.", "content_recent"
)
