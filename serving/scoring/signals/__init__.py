"""The ranking signals, one file each. To add a signal, add a file.

Each module declares its `FAMILY`; see `serving.scoring.signal`. The compilation cache checks only a
function's own file for changes, so everything a compiled function calls must be in the same file.
"""

from __future__ import annotations

import pkgutil
from collections import Counter
from functools import lru_cache
from importlib import import_module

from serving.scoring.signal import Family, Signal
from serving.scoring.signal_groups import GROUPS


@lru_cache(maxsize=1)
def all_families() -> tuple[Family, ...]:
    """Return the families of all modules, in the order of the module names.

    Raises:
        TypeError: a module has no `FAMILY`, or a signal has an unknown group or a duplicate name.
    """
    modules = [module.name for module in pkgutil.iter_modules(__path__)]
    found = {name: getattr(import_module(f"{__name__}.{name}"), "FAMILY", None) for name in modules}
    names = Counter(s.name for f in found.values() if isinstance(f, Family) for s in f.signals)
    for name, family in found.items():
        if not isinstance(family, Family) or any(
            signal.group not in GROUPS or names[signal.name] > 1 for signal in family.signals
        ):
            msg = f"{__name__}.{name}: declare a FAMILY of signals with new names, in groups of {GROUPS}"
            raise TypeError(msg)
    return tuple(family for family in found.values() if family is not None)


@lru_cache(maxsize=1)
def all_signals() -> dict[str, Signal]:
    """Return every signal by name."""
    return {signal.name: signal for family in all_families() for signal in family.signals}


def group_of(name: str) -> str:
    """Return the group of a column. A column's name starts with its signal, before the first colon.

    Raises:
        KeyError: the signal is unknown.
    """
    return all_signals()[name.partition(":")[0]].group
