"""The statistics of the batch groups as incremental state, for the replay of history.

Same definitions as the batch expressions (`docs/architecture.md`), kept up to date event by event: a replay
reads profiles at thousands of moments where a batch build answers for one. Pure Python and numpy.
"""

from __future__ import annotations

from feature_repo.statistics.reception import ItemStats
from feature_repo.statistics.replay import Statistics

__all__ = ["Statistics", "ItemStats"]
