"""Users whose queries must not be kept, by their consent today, in the batch and elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

from feature_repo.contract.validation import Event, Record, User

Denying: TypeAlias = Callable[[Collection[str]], Collection[str]]
"""Returns those of the given users who are known to deny consent."""


def nobody(_users: Collection[str]) -> Collection[str]:
    """Return no user: nothing is known about consent."""
    return ()


def denying(records: Iterable[Record], known: Denying) -> frozenset[str]:
    """Return the users who deny consent, among those whose events contain a query.

    Statements in the user records among `records` are newer than those in `known`.
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
