"""Names of the simple rankers, so that flags can be validated without importing the scoring code."""

from __future__ import annotations

import pkgutil
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def ranker_names() -> tuple[str, ...]:
    """Return the names of all rankers: the file names in `serving/scoring/rankers`."""
    return tuple(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent / "rankers")]))
