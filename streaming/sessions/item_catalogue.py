"""What the stream knows besides events: the catalogue and who stated what of consent.

Both come from the lake and, sooner, from item and user records that pass through the log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pyarrow.parquet as pq

from feature_repo.catalogue import ItemFacts, facts_of
from feature_repo.contract.validation import Item, Kind, User, from_arrow
from feature_repo.errors import LakeError
from feature_repo.lake.lake import Lake

LOOK_EVERY_S = 5.0
_log = logging.getLogger(__name__)


class Knowledge:
    """Facts of items and denials of users, shared by the shards of a process.

    Args:
        lake: read at the first `refresh`, and again when it has new files.

    Attributes:
        whole: whether every file of users could be read.
    """

    def __init__(self, lake: Lake, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lake = lake
        self._now = monotonic
        self._next_look = 0.0
        self._lock = threading.Lock()
        self._read: set[str] = set()
        self._heard: set[str] = set()
        self.whole = True
        self.facts: dict[str, ItemFacts] = {}
        self.consents: dict[str, bool] = {}

    def hear(self, record: Item | User) -> None:
        """Learn from a record of the log; it is newer than anything in the lake."""
        self._heard.add(record.item_id if isinstance(record, Item) else f"user {record.user_id}")
        self._learn(record)

    def refresh_sometimes(self) -> None:
        """`refresh`, if nobody did within the last `LOOK_EVERY_S`."""
        if self._now() >= self._next_look and self._lock.acquire(blocking=False):
            try:
                self._next_look = self._now() + LOOK_EVERY_S
                self.refresh()
            finally:
                self._lock.release()

    def refresh(self) -> None:
        """Read item and user files new in the lake; an unreadable one is reported and skipped."""
        kinds: tuple[Kind, ...] = ("item", "user")
        for kind in kinds:
            for file in self._lake.files(kind):
                if file not in self._read:
                    self._read.add(file)
                    try:
                        self._read_file(kind, file)
                    except (OSError, ValueError, LakeError) as error:
                        self.whole = self.whole and kind != "user"
                        _log.warning(
                            "lake file %s cannot be read, its %ss are unknown: %s", file, kind, error
                        )

    def _read_file(self, kind: Kind, file: str) -> None:
        rows = pq.read_table(file).sort_by("ingested_at").to_pylist()
        for row in rows:
            record = from_arrow(kind, row)
            assert isinstance(record, Item | User)
            if (record.item_id if isinstance(record, Item) else f"user {record.user_id}") not in self._heard:
                self._learn(record)

    def _learn(self, record: Item | User) -> None:
        if isinstance(record, Item):
            self.facts[record.item_id] = facts_of(record)
        elif record.consent is None:
            self.consents.pop(record.user_id, None)
        else:
            self.consents[record.user_id] = record.consent

    def denies(self, user_id: str | None) -> bool:
        """Whether the newest record of a user denies consent."""
        return user_id is not None and self.consents.get(user_id) is False
