"""Items touched in this session first, the last one on top."""

from __future__ import annotations

from serving.scoring.ranker import Ranker

RANKER = Ranker("touched_first", "Items touched in this session first, the last one on top.", "touch_rank")
