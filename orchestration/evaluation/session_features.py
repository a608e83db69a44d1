"""Active sessions of a replay: the fold of `session_profile`, in memory."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from feature_repo.clock import micros_of
from feature_repo.consent import permitted
from feature_repo.contract.validation import Event
from feature_repo.groups.session_profile import Profile, SessionRules, step, touch_of, values
from feature_repo.settings import Settings
from orchestration.evaluation.history import History
from serving.scoring.profile_signals import Row

_MICROSECOND = timedelta(microseconds=1)


class ReplaySessions:
    """Profiles by session id, equal to the stream's: the same events folded in the same order."""

    def __init__(self, history: History, settings: Settings) -> None:
        self._history = history
        self._rules = SessionRules.of(settings)
        self._ttl_us = int(settings.session_ttl_s * 1e6)
        self._profiles: dict[str, Profile] = {}

    def add(self, events: Iterable[Event]) -> None:
        """Fold events, none older than earlier ones; equal times in order of their ids."""
        for event in sorted(events, key=lambda e: (e.event_time, e.event_id)):
            touch = touch_of(event, self._history.weights, self._consent(event))
            facts = None if event.item_id is None else self._history.catalogue.get(event.item_id)
            before = self._profiles.get(event.session_id)
            self._profiles[event.session_id] = step(before, touch, facts, self._rules)

    def row(self, session_id: str, now: datetime) -> Row | None:
        """Return the session's feature row; `None` if it is not active or personalization was denied."""
        profile = self._profiles.get(session_id)
        if profile is None or profile.denied:
            return None
        quiet = micros_of(now) - profile.last_us
        return None if quiet > min(self._rules.gap_us, self._ttl_us) else values(profile, self._rules)

    def _consent(self, event: Event) -> bool | None:
        user = None if event.user_id is None else self._history.users.get(event.user_id)
        return permitted(event.consent, None if user is None else user.consent, None)
