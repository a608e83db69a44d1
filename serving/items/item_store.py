"""The promoted builds of items, with a copy of those that served last."""

from __future__ import annotations

import logging
from pathlib import Path

from feature_repo.errors import LakeError
from feature_repo.lake.lake import Build, Builds
from feature_repo.lock import locked
from serving.control.reloading import stamp_of
from serving.items.item_snapshot import (
    GROUPS,
    ITEMS,
    ItemSnapshot,
    current_builds,
    load_snapshot,
    read_snapshot,
)

log = logging.getLogger(__name__)


class ItemStore:
    """Builds of `item_profile` and `item_neighbours` below `features`, and copies of the last good ones.

    A build that was there once does not end by being gone: the chain replaces builds, it removes no pointer.

    Args:
        features: folder of the builds.
        kept: folder of the copies: hard links, where both are on one file system.
    """

    def __init__(self, features: Path, kept: Path) -> None:
        self._builds = Builds(features)
        self._kept = Builds(kept)
        self._held: set[str] = set()

    def stamp(self) -> object:
        """Changes when another build is promoted, or a pointer disappears."""
        return stamp_of(*map(self._pointer, GROUPS))

    def load(self) -> ItemSnapshot | None:
        """The snapshot of the current builds, which are kept; `None` before the first build of items.

        Raises:
            LakeError: a build cannot be read, or is gone or empty though there was one; names the file.
        """
        found = current_builds(self._builds)
        for group, build in found.items():
            if self._lost(group, build):
                gone = "gone" if build is None else "names a build without rows"
                msg = f"{self._pointer(group)}: {gone}; put the folder back, or run the chain again"
                raise LakeError(msg)
        snapshot = read_snapshot(found)
        if snapshot is not None:
            self._keep(found)
        return snapshot

    def last_good(self) -> ItemSnapshot | None:
        """The snapshot that served last, whatever became of its builds; `None` where there was none.

        Raises:
            LakeError: the copy is damaged.
        """
        return load_snapshot(self._kept)

    def _pointer(self, group: str) -> Path:
        return self._builds.folder(group) / "CURRENT"

    def _lost(self, group: str, build: Build | None) -> bool:
        if build is not None and (build.rows or group != ITEMS):
            return False
        if group in self._held:
            return True
        try:
            return self._kept.current(group) is not None
        except LakeError:  # of the copies nothing is known
            return group == ITEMS

    def _keep(self, found: dict[str, Build | None]) -> None:
        """Keep what serves now; a full disk holds nothing up."""
        there = {group: build for group, build in found.items() if build is not None}
        self._held.update(there)
        try:
            with locked(self._kept.root / ".lock"):
                for group, build in there.items():
                    self._kept.adopt(group, build)
        except OSError as error:
            log.error("%s: the items could not be kept for a later start (%s)", self._kept.root, error)
