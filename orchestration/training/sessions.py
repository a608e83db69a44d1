"""Computes session rows as of each decision, with the same fold that serves live."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from typing import Any

from feature_repo.catalogue import catalogue_of
from feature_repo.contract.validation import Event, Item, User
from feature_repo.settings import Settings
from orchestration.evaluation.history import History
from orchestration.evaluation.session_features import ReplaySessions


def session_rows(
    events: Iterable[Event], items: Iterable[Item], users: Iterable[User], settings: Settings
) -> Iterator[tuple[str, datetime, dict[str, Any]]]:
    """Yield (request, last event time, values) of the session before each impression, if it is active.

    A request shown more than once is yielded more than once, in time order within a session.

    Only events strictly before the impression count, never its own or its clicks. Memory holds one session
    at a time.
    memory at a time.

    Args:
        events: ordered by session, then time, then id.
    """
    catalogue = catalogue_of(items)
    history = History((), catalogue, {user.user_id: user for user in users}, dict(settings.weights))
    for session_id, of_session in groupby(events, key=lambda event: event.session_id):
        replay = ReplaySessions(history, settings)
        waiting: list[Event] = []
        for event in of_session:
            if waiting and waiting[-1].event_time < event.event_time:
                replay.add(waiting)
                waiting = []
            if event.event_type == "impression":
                row = replay.row(session_id, event.event_time)
                if row is not None:
                    found = dict(row)
                    yield event.request_id or event.event_id, found["last_event_time"], found
            waiting.append(event)
