"""The file formats, one file each; importing one is left until it is used."""

from __future__ import annotations

import pkgutil
from functools import lru_cache
from importlib import import_module

from streaming.sources.format import Format

DEFAULT = "headrace"


@lru_cache(maxsize=1)
def format_names() -> tuple[str, ...]:
    """Return the names of all formats, the default first."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(names, key=lambda name: name != DEFAULT))


def format_of(name: str) -> Format:
    """Return a format by the name of its file.

    Raises:
        TypeError: the file declares no `FORMAT`.
    """
    found = getattr(import_module(f"{__name__}.{name}"), "FORMAT", None)
    if not isinstance(found, Format):
        msg = f"{__name__}.{name}: declare FORMAT, a streaming.sources.format.Format"
        raise TypeError(msg)
    return found
