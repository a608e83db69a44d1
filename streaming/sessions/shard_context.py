"""What the shards of a process share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from feature_repo.errors import ContractError
from feature_repo.group import SESSION, USER
from feature_repo.online.row_encoder import RowEncoder, encoders_of
from streaming.log.log_records import LogRecords
from streaming.sessions.item_catalogue import Knowledge
from streaming.sessions.session_fold import FoldRules


class PutsAside(Protocol):
    """What a shard needs of the quarantine."""

    def put(self, raw: bytes, source: str, line: int | None, error: ContractError) -> object:
        """Keep rejected bytes with the reason."""
        ...


@dataclass(frozen=True)
class ShardTools:
    """What every shard of a process shares.

    Attributes:
        store_lost: asked at each tick with the shard's name: whether the online store lost what was written.
        consent_lost: asked at each tick of the first partition: whether the store lacks what users stated.
        every_event: a row for each event instead of one for each session of a chunk: history, not the newest.
        records: reads records of the log.
        sessions, users: encoders of the groups that are kept of each.
    """

    rules: FoldRules
    weights: Mapping[str, float]
    knowledge: Knowledge
    quarantine: PutsAside
    clock: Callable[[], datetime]
    store_lost: Callable[[str, bool], bool] = lambda name, known: False
    consent_lost: Callable[[], bool] = lambda: False
    every_event: bool = False
    records: LogRecords = field(default_factory=LogRecords)
    sessions: Sequence[RowEncoder] = field(default_factory=lambda: encoders_of(SESSION))
    users: Sequence[RowEncoder] = field(default_factory=lambda: encoders_of(USER))
