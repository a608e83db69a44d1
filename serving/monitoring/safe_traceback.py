"""What the log says of an exception met on the way of a request: nothing a person is known by."""

from __future__ import annotations

from pathlib import Path
from traceback import walk_tb


def place_of(error: BaseException) -> str:
    """What kind of exception was raised and where, innermost call first.

    Without its own words: they may hold what a person is known by, as a KeyError's do.
    """
    frames = (
        f"{Path(frame.f_code.co_filename).name}:{line} {frame.f_code.co_name}"
        for frame, line in walk_tb(error.__traceback__)
    )
    return f"{type(error).__name__} at {' < '.join(reversed(list(frames)))}"
