"""Loads the promoted item builds, and keeps copies of the last good ones."""

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
    """Builds of `item_profile` and `item_neighbours`, and copies of the last good ones.

    A missing pointer is an error once a build was seen, because the chain replaces builds and never removes
    pointers.

    Args:
        features: folder of the builds.
        kept: folder of the copies, which are hard links if possible.
    """

    def __init__(self, features: Path, kept: Path) -> None:
        self._builds = Builds(features)
        self._kept = Builds(kept)
        self._held: set[str] = set()

    def stamp(self) -> object:
        """Return a stamp that changes when another build is promoted or a pointer disappears."""
        return stamp_of(*map(self._pointer, GROUPS))

    def load(self) -> ItemSnapshot | None:
        """Load the snapshot of the current builds and keep copies; return `None` before the first item build.

        Raises:
            LakeError: a build cannot be read, or has disappeared or become empty.
        """
        found = current_builds(self._builds)
        for group, build in found.items():
            if self._lost(group, build):
                gone = "missing" if build is None else "names a build without rows"
                msg = f"{self._pointer(group)}: {gone}; put the folder back, or run the chain again"
                raise LakeError(msg)
        snapshot = read_snapshot(found)
        if snapshot is not None:
            self._keep(found)
        return snapshot

    def last_good(self) -> ItemSnapshot | None:
        """Load the copy of the last good snapshot, or return `None` if there is none.

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
        except LakeError:  # the copies are unreadable
            return group == ITEMS

    def _keep(self, found: dict[str, Build | None]) -> None:
        """Keep copies of the current builds. A full disk is logged and does not stop loading."""
        there = {group: build for group, build in found.items() if build is not None}
        self._held.update(there)
        try:
            with locked(self._kept.root / ".lock"):
                for group, build in there.items():
                    self._kept.adopt(group, build)
        except OSError as error:
            log.error("%s: cannot keep copies of the items for the next start (%s)", self._kept.root, error)
