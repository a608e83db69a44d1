"""How far a build has come into the online store: kept in the store itself, advanced only after the write.

A store that comes back empty has no mark either, so nothing is skipped that is not there.
"""

from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from feature_repo.group import FeatureGroup
from feature_repo.lake.lake import Build
from feature_repo.online import OnlineStore

PREFIX = "materialized/"


@dataclass(frozen=True)
class Watermark:
    """Where a view stands.

    Attributes:
        build: which build is being written, by its as-of and creation time.
        done: pieces (row groups of its file) that are in the store.
        rows: rows written so far.
        complete: whether all of it is in the store.
    """

    view: str
    as_of: datetime
    created: datetime
    done: tuple[int, ...] = ()
    rows: int = 0
    complete: bool = False

    @classmethod
    def begin(cls, group: FeatureGroup, build: Build, store: OnlineStore) -> "Watermark":
        """Where to go on: an interrupted write of the very same build is resumed, any other begins anew."""
        fresh = cls(group.view_name, build.as_of, build.created)
        held = read_watermark(group, store)
        same = held is not None and (held.as_of, held.created) == (build.as_of, build.created)
        return held if same and held is not None and not held.complete else fresh

    def advanced(self, piece: int, rows: int) -> "Watermark":
        """After a piece has been written."""
        return replace(self, done=(*self.done, piece), rows=self.rows + rows)

    def save(self, store: OnlineStore) -> "Watermark":
        """Keep it in the store."""
        store.put_marks({PREFIX + self.view: msgspec.json.encode(self)})
        return self


def read_watermark(group: FeatureGroup, store: OnlineStore) -> Watermark | None:
    """The view's mark; `None` where nothing was materialized, or where what stands there is no mark."""
    raw = store.marks(PREFIX).get(PREFIX + group.view_name)
    try:
        return None if raw is None else msgspec.json.decode(raw, type=Watermark)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
