"""The progress of a build into the online store: kept in the store, advanced only after each write.

A store that comes back empty has no checkpoint either, so no write is skipped.
"""

from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from feature_repo.group import FeatureGroup
from feature_repo.lake.lake import Build
from feature_repo.online import OnlineStore

PREFIX = "materialized/"


@dataclass(frozen=True)
class Checkpoint:
    """Progress of one view.

    Attributes:
        build: the build being written, identified by its as-of and creation times.
        done: pieces (row groups of the file) already in the store.
        rows: rows written so far.
        complete: whether the whole build is in the store.
    """

    view: str
    as_of: datetime
    created: datetime
    done: tuple[int, ...] = ()
    rows: int = 0
    complete: bool = False

    @classmethod
    def begin(cls, group: FeatureGroup, build: Build, store: OnlineStore) -> "Checkpoint":
        """Resume an interrupted write of the same build; start over for any other build."""
        fresh = cls(group.view_name, build.as_of, build.created)
        held = read_checkpoint(group, store)
        same = held is not None and (held.as_of, held.created) == (build.as_of, build.created)
        return held if same and held is not None and not held.complete else fresh

    def advanced(self, piece: int, rows: int) -> "Checkpoint":
        """Return the checkpoint after a piece has been written."""
        return replace(self, done=(*self.done, piece), rows=self.rows + rows)

    def save(self, store: OnlineStore) -> "Checkpoint":
        """Save the checkpoint in the store."""
        store.put_marks({PREFIX + self.view: msgspec.json.encode(self)})
        return self


def read_checkpoint(group: FeatureGroup, store: OnlineStore) -> Checkpoint | None:
    """Read a view's checkpoint; `None` if there is none or the stored value is not a checkpoint."""
    raw = store.marks(PREFIX).get(PREFIX + group.view_name)
    try:
        return None if raw is None else msgspec.json.decode(raw, type=Checkpoint)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
