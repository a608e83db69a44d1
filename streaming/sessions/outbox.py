"""What a shard handed on that reading the log again would not bring back.

A shard's file is saved before the online store has what the shard said meanwhile. After a crash in between
the events read again write their sessions' rows again. What is no session's any more would be lost: the
deletion of expired sessions, runs that ended or were taken back, the rest of an emptied store's rewrite. They
are saved with the state and said again by the process that opens it next; saying them twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Container

import msgspec
from msgspec import Struct

from streaming.sessions.messages import Changes
from streaming.sessions.user_fold import Contribution

OUTBOX = "outbox"
"""Fact of a shard's file."""
SAVES = 2
"""Snapshots for which a thing said is kept: by the second one Bytewax has committed the first."""


class _Saved(Struct, array_like=True):
    deleted: list[str]
    contributions: list[Contribution]
    rewriting: bool = False


_decoder = msgspec.msgpack.Decoder(_Saved)


class Outbox:
    """Deletions and contributions since the snapshot before the last.

    Attributes:
        deleted, contributions: said since the last snapshot.
        rewriting: snapshots until the rewrite of an emptied store is certain to be in it.
        interrupted: a rewrite was under way when the last process ended.
    """

    def __init__(self, raw: bytes | None = None) -> None:
        self._waiting = _decoder.decode(raw) if raw else _Saved([], [])
        self._before = _Saved([], [])
        self.deleted: list[str] = []
        self.contributions: list[Contribution] = []
        self.interrupted = self._waiting.rewriting
        self.rewriting = SAVES if self.interrupted else 0

    def again(self, held: Container[str]) -> Changes:
        """What the process before may not have got into the store; said once, before anything else.

        Args:
            held: sessions that live; one of them is not deleted.
        """
        waiting, self._waiting = self._waiting, _Saved([], [])
        deleted = [session_id for session_id in waiting.deleted if session_id not in held]
        self.deleted += deleted
        self.contributions += waiting.contributions
        return Changes(deleted=deleted, contributions=waiting.contributions)

    def save(self) -> bytes:
        """For the shard's file, at each snapshot."""
        now = _Saved(self.deleted, self.contributions)
        waiting, before = self._waiting, self._before
        raw = msgspec.msgpack.encode(
            _Saved(
                waiting.deleted + before.deleted + now.deleted,
                waiting.contributions + before.contributions + now.contributions,
                self.rewriting > 0,
            )
        )
        self._before, self.deleted, self.contributions = now, [], []
        if not self.interrupted:
            self.rewriting = max(self.rewriting - 1, 0)
        return raw
