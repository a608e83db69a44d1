"""The blend that serves, with a copy of the one that served last."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from feature_repo.errors import BuildError
from serving.control.last_good import keep
from serving.scoring.blend import Blend, current_path, load_blend, read_blend

log = logging.getLogger(__name__)


class BlendStore:
    """Blends below `models`, and a copy of the last good one below `kept`."""

    def __init__(self, models: Path, kept: Path) -> None:
        self._models = models
        self._copy = kept / "blend.json"
        self.path = current_path(models)
        self._held = False

    def load(self) -> Blend | None:
        """The blend that serves, of which a copy is kept; `None` before the first fit.

        Raises:
            BuildError: it cannot be read, or is gone though there was one; names the file.
        """
        blend = load_blend(self._models)
        if blend is None:
            if self._held or self._copy.exists():
                msg = f"{self.path}: gone; put it back, or fit again"
                raise BuildError(msg)
            return None
        self._held = True
        try:
            keep(self._copy, msgspec.json.encode(blend))
        except OSError as error:
            log.error("%s: the blend could not be kept for a later start (%s)", self._copy, error)
        return blend

    def last_good(self) -> Blend | None:
        """The blend that served last, whatever became of its file; `None` where there was none.

        Raises:
            BuildError: the copy is damaged.
        """
        return read_blend(self._copy) if self._copy.exists() else None
