"""The simple rankers, one file each: one-line rules that a fitted blend has to beat."""

from __future__ import annotations

import pkgutil
from functools import lru_cache
from importlib import import_module

from serving.scoring.ranker import Ranker
from serving.scoring.signals import all_signals


@lru_cache(maxsize=1)
def all_rankers() -> dict[str, Ranker]:
    """Return every ranker by name, which is the name of its file; the base order comes first.

    Raises:
        TypeError: a module has no `RANKER` with its name, or the ranker's signal does not exist.
    """
    found: dict[str, Ranker] = {}
    for module in pkgutil.iter_modules(__path__):
        ranker = getattr(import_module(f"{__name__}.{module.name}"), "RANKER", None)
        if (
            not isinstance(ranker, Ranker)
            or ranker.name != module.name
            or ranker.signal.partition(":")[0] not in all_signals()
        ):
            msg = f"{__name__}.{module.name}: declare RANKER, named {module.name}, with an existing signal"
            raise TypeError(msg)
        found[ranker.name] = ranker
    return dict(sorted(found.items(), key=lambda pair: (pair[0] != "base", pair[0])))
