"""Notices that the online store was emptied, so that it is written again from state."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from feature_repo.errors import StoreError


class StoreWatch:
    """A canary per shard in the online store; only the shard itself writes it, so its absence means a loss.

    Args:
        read: names of the marks present; raises `StoreError`.
        write: puts a mark; raises `StoreError`.
        era: part of the canaries' names: those of another one say nothing.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[str, bytes]],
        write: Callable[[Mapping[str, bytes]], None],
        era: str = "",
    ) -> None:
        self._era = era
        self._read = read
        self._write = write
        self._put: set[str] = set()

    def lost(self, shard: str, known: bool) -> bool:
        """Whether the shard's canary is gone; `known`: the shard holds state, so that one was written."""
        name = f"canary/{self._era}{shard}"
        try:
            if name in self._read():
                self._put.add(name)
                return False
            self._write({name: b"1"})
        except StoreError:
            return False
        gone = known or name in self._put
        self._put.add(name)
        return gone
