"""Loads the blend that serves, and keeps a copy of the last good one."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from feature_repo.errors import BuildError
from serving.control.last_good import keep
from serving.control.reloading import stamp_of
from serving.scoring.blend import Blend, current_path, load_blend, read_blend

log = logging.getLogger(__name__)


class BlendStore:
    """Loads blends from `models`, and keeps a copy of the last good one in `kept`."""

    def __init__(self, models: Path, kept: Path) -> None:
        self._models = models
        self._copy = kept / "blend.json"
        self.path = current_path(models)
        self._held = False

    def stamp(self) -> object:
        """Return a stamp that changes when another blend serves."""
        return stamp_of(self.path)

    def load(self) -> Blend | None:
        """Load the blend that serves and keep a copy; return `None` before the first fit.

        Raises:
            BuildError: the blend cannot be read, or has disappeared.
        """
        blend = load_blend(self._models)
        if blend is None:
            if self._held or self._copy.exists():
                msg = f"{self.path}: missing; put it back, or fit again"
                raise BuildError(msg)
            return None
        self._held = True
        try:
            keep(self._copy, msgspec.json.encode(blend))
        except OSError as error:
            log.error("%s: cannot keep a copy of the blend for the next start (%s)", self._copy, error)
        return blend

    def last_good(self) -> Blend | None:
        """Read the copy of the last good blend, or return `None` if there is none.

        Raises:
            BuildError: the copy is damaged.
        """
        return read_blend(self._copy) if self._copy.exists() else None
