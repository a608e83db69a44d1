"""The batch groups' statistics as incremental state, for the replay of history.

The definitions are those of the batch expressions (`docs/reference/statistics.md`), updated event by event:
a replay reads profiles at thousands of moments, a batch build at one. Pure Python and NumPy.
"""

from __future__ import annotations

from feature_repo.statistics.reception import ItemStats
from feature_repo.statistics.replay import Statistics

__all__ = ["Statistics", "ItemStats"]
