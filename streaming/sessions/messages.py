"""What passes between the steps of the flow: a chunk of the log in, what it changed out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from feature_repo.online import EncodedRow
from streaming.log import Damage, Place, Position
from streaming.sessions.heartbeat import Heartbeat
from streaming.sessions.session_fold import Outcome
from streaming.sessions.user_fold import Contribution


@dataclass(frozen=True, slots=True)
class Chunk:
    """What the source read of one partition at once.

    Attributes:
        places: of each record in the log.
        position: the place after the records.
        damaged: bytes of the log that no longer hold a record.
        tick: time to write a heartbeat and to look for expired sessions.
        behind_s: how long the partition has not been read to its end (s).
        idle_us: how long nothing has come (µs); lets expiry go on where no event moves the watermark.
        heard: user and item records of another partition: any session may need them.
        replayed: records among these that the state of the partition holds already.
    """

    partition: int
    records: list[bytes]
    position: Position = ""
    damaged: tuple[Damage, ...] = ()
    tick: bool = False
    behind_s: float = 0.0
    idle_us: int = 0
    heard: tuple[bytes, ...] = ()
    places: Sequence[Place] = ()
    replayed: int = 0


@dataclass(slots=True)
class Changes:
    """What a chunk changed: rows to write, sessions to delete, contributions to users, a heartbeat.

    Attributes:
        rows: each session's row in each group of sessions, in the order of these groups.
        consents: what the records of users stated, kept beside the features: the long-term profile of those
            who denied must go as well.
        restated: what is said again to a store that lost it.
        complete: with `restated` the store holds all there is.
    """

    rows: list[EncodedRow] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    contributions: list[Contribution] = field(default_factory=list)
    consents: dict[str, bool | None] = field(default_factory=dict)
    restated: dict[str, bool] = field(default_factory=dict)
    complete: bool = False
    heartbeat: Heartbeat | None = None
    horizon_us: int = 0
    rewrite: bool = False


@dataclass(slots=True)
class Tally:
    """Counts of one shard since its process started."""

    read: int = 0
    folded: int = 0
    duplicate: int = 0
    late: int = 0
    quarantined: int = 0
    expired: int = 0
    replayed: int = 0

    def count(self, outcomes: Sequence[Outcome]) -> None:
        """Count what became of events."""
        for outcome in outcomes:
            if outcome == "folded":
                self.folded += 1
            elif outcome == "duplicate":
                self.duplicate += 1
            else:
                self.late += 1
