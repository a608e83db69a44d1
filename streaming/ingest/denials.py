"""Users whose queries must not be kept: what they state of consent today, in a batch and outside of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

from feature_repo.contract.validation import Event, Record, User

Denying: TypeAlias = Callable[[Collection[str]], Collection[str]]
"""Given users, those among them who are known to deny consent."""


def nobody(_users: Collection[str]) -> Collection[str]:
    """Where nothing is known of users."""
    return ()


def denying(records: Iterable[Record], known: Denying) -> frozenset[str]:
    """Those who deny consent among the users whose events hold a query.

    What the records of users among `records` state is newer than what is `known`.
    """
    said: dict[str, bool | None] = {}
    asking: set[str] = set()
    for record in records:
        if isinstance(record, Event):
            if record.query and record.user_id is not None:
                asking.add(record.user_id)
        elif isinstance(record, User):
            said[record.user_id] = record.consent
    if not asking:
        return frozenset()
    unsaid = asking - said.keys()
    found = {user_id for user_id in asking if said.get(user_id) is False}
    return frozenset(found.union(known(unsaid) if unsaid else ()))
