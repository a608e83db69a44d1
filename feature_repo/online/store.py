"""The online store as Headrace uses it: monotone writes, reads in one round trip, marks beside features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from feature_repo.group import FeatureGroup
from feature_repo.online.rows import EncodedRow, OnlineRow


class OnlineStore(Protocol):
    """Feast's online layout, read and written without Feast. Safe to use from several threads.

    Every method raises `StoreError` when the store is unreachable, slow beyond its timeout, or answers
    garbage.
    """

    def write(self, group: FeatureGroup, rows: Sequence[OnlineRow]) -> int:
        """Write rows in one pipeline and return how many were taken.

        Monotone per key: a row whose event time is before the stored one is left out; an equal one replaces
        it, since a late event may change a profile without changing its time.
        """
        ...

    def write_encoded(self, group: FeatureGroup, rows: Sequence[EncodedRow], *, check: bool = True) -> int:
        """`write` of rows encoded already; each key at most once.

        Args:
            check: leave out what is older than the stored row. A key's only writer, who knows what it wrote
                last, saves the round trip.
        """
        ...

    def read(self, requests: Sequence[tuple[FeatureGroup, str]]) -> list[OnlineRow | None]:
        """Rows of any groups and keys in one round trip, in the order asked; `None` where there is none.

        The time-to-live is the caller's to apply: Feast does not enforce it online.
        """
        ...

    def delete(self, group: FeatureGroup, keys: Iterable[str]) -> int:
        """Remove a group's rows; returns how many there were."""
        ...

    def put_marks(self, marks: Mapping[str, bytes]) -> None:
        """Keep small facts beside the features (heartbeats); no Feast object knows of them."""
        ...

    def marks(self, prefix: str = "") -> dict[str, bytes]:
        """The facts kept, by name."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
