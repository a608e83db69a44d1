"""Names of the simple rankers, without what computes them: flags are checked where nothing is ranked."""

from __future__ import annotations

import pkgutil
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def ranker_names() -> tuple[str, ...]:
    """Names of all rankers: those of the files in `serving/scoring/rankers`."""
    return tuple(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent / "rankers")]))
