"""Describes exceptions for the log without personal data."""

from __future__ import annotations

from pathlib import Path
from traceback import walk_tb


def place_of(error: BaseException) -> str:
    """Return the type of an exception and where it was raised, innermost call first.

    The message is left out, because it may hold personal data, as a KeyError's does.
    """
    frames = (
        f"{Path(frame.f_code.co_filename).name}:{line} {frame.f_code.co_name}"
        for frame, line in walk_tb(error.__traceback__)
    )
    return f"{type(error).__name__} at {' < '.join(reversed(list(frames)))}"
