"""Replays history: every ranking task goes through the same folds, profiles and signals that serve.

Each task sees only what happened strictly before it. The result is one flat matrix over all tasks, used to
fit weights and to compare arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np

from feature_repo.arrays import Bools, Float32s, Floats, Ints
from feature_repo.clock import EPOCH
from feature_repo.contract.validation import Event
from feature_repo.group import BatchParams
from feature_repo.groups.segment_profile import EVERYONE
from feature_repo.settings import Settings
from feature_repo.statistics import Statistics
from orchestration.evaluation.history import History, Progress, silent
from orchestration.evaluation.item_features import ItemView, ReplayItems
from orchestration.evaluation.ranking_tasks import Task
from serving.scoring.base_order import base_scores
from serving.scoring.profile_signals import Row
from serving.scoring.signal_matrix import Known, SignalMatrix, signals, touched_items

REPORT_EVERY = 250
SEGMENT_READS = 1000
"""Maximum number of times a segment's profile is refreshed over the span of a history."""
CONTINUOUS = timedelta(0)


class Sessions(Protocol):
    """Active sessions: the fold of `session_profile`, fed in time order."""

    def add(self, events: Sequence[Event]) -> None:
        """Fold events that are newer than all before."""
        ...

    def row(self, session_id: str, now: datetime) -> Row | None:
        """Return the session's feature row as of now; `None` if the session is not active."""
        ...


@dataclass(frozen=True, eq=False)
class Askers:
    """Who asked for each of ``n`` lists.

    Attributes:
        sessions, users: a number for each session and each user; -1 for an anonymous user.
        touched: how many items the session had touched.
        segments: the user's segment; ``all`` if none is known.
    """

    sessions: Ints
    users: Ints
    touched: Ints
    segments: tuple[str, ...]

    def take(self, chosen: Ints) -> Askers:
        """Return those of some lists."""
        segments = tuple(self.segments[i] for i in chosen.tolist())
        return Askers(self.sessions[chosen], self.users[chosen], self.touched[chosen], segments)


@dataclass(frozen=True, eq=False)
class Replayed:
    """``n`` lists, flat: list ``i`` is the slice ``offsets[i] … offsets[i + 1]``, in the order shown.

    Attributes:
        times: times of the tasks.
        names: signals, the columns of `values` (float32 ``(places, k)``, nan where unknown).
        popularity: (engagements + 1) / (impressions + 5) so far, the ranker of the RankLens protocol.
        items: item numbers, for coverage.
        askers: who asked for each list.
    """

    times: tuple[datetime, ...]
    names: tuple[str, ...]
    values: Float32s
    offsets: Ints
    relevant: Bools
    popularity: Floats
    items: Ints
    askers: Askers

    def __len__(self) -> int:
        return len(self.times)

    def part(self, start: int, stop: int) -> Replayed:
        """Return lists ``start … stop``."""
        low, high = int(self.offsets[start]), int(self.offsets[stop])
        return Replayed(
            times=self.times[start:stop],
            names=self.names,
            values=self.values[low:high],
            offsets=self.offsets[start : stop + 1] - low,
            relevant=self.relevant[low:high],
            popularity=self.popularity[low:high],
            items=self.items[low:high],
            askers=self.askers.take(np.arange(start, stop)),
        )

    def keep(self, chosen: Ints) -> Replayed:
        """Return the lists in `chosen`, in that order."""
        lengths = np.diff(self.offsets)[chosen]
        bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.intp)
        places = np.arange(bounds[-1]) + np.repeat(self.offsets[chosen] - bounds[:-1], lengths)
        return Replayed(
            times=tuple(self.times[i] for i in chosen.tolist()),
            names=self.names,
            values=self.values[places],
            offsets=bounds,
            relevant=self.relevant[places],
            popularity=self.popularity[places],
            items=self.items[places],
            askers=self.askers.take(chosen),
        )


class Replay:
    """One pass over a history.

    Args:
        refresh: interval of batch builds; between builds features are frozen, as in serving. Zero keeps them
            up to date with every event. Sessions are always live.
    """

    def __init__(
        self, history: History, sessions: Sessions, settings: Settings, refresh: timedelta = CONTINUOUS
    ) -> None:
        settings = settings.model_copy(update={"event_weights": dict(history.weights)})
        params = BatchParams.of(settings, datetime.now(UTC))
        self._history = history
        self._sessions = sessions
        self._statistics = Statistics(params, history.catalogue, history.users)
        self._items = ReplayItems(history, self._statistics)
        self._refresh = refresh
        self._segment_age = max(refresh, history.span / SEGMENT_READS)
        self._users: dict[str, tuple[datetime, Row | None]] = {}
        self._segments: dict[str, tuple[datetime, Row | None]] = {}
        self._fed = 0

    def run(self, tasks: Sequence[Task], progress: Progress = silent) -> Replayed:
        """Compute the signals of all tasks, which must be in time order."""
        lists = _Lists()
        for event in self._history.events:
            self._statistics.add(event)
        for done, task in enumerate(tasks):
            self._advance(task.time)
            self._see(task, lists)
            if done % REPORT_EVERY == 0 or done + 1 == len(tasks):
                progress("replay", done + 1, len(tasks))
        return lists.replayed()

    def _advance(self, now: datetime) -> None:
        events = self._history.events
        start = self._fed
        while self._fed < len(events) and events[self._fed].event_time < now:
            self._fed += 1
        self._sessions.add(events[start : self._fed])

    def _see(self, task: Task, lists: _Lists) -> None:
        built = _floor(task.time, self._refresh)
        session = self._sessions.row(task.session_id, task.time)
        user = self._user(task.user_id, built)
        segment = self._segment(EVERYONE if user is None else user["segment"], built)
        view = self._items.view(task.item_ids, touched_items(session), built)
        now_ms = (task.time - EPOCH) // timedelta(milliseconds=1)
        known = Known(user, segment, session)
        segment_name = EVERYONE if user is None else str(user["segment"])
        lists.add(task, signals(base_scores(task.scores), view.rows, known, now_ms), view, segment_name)

    def _user(self, user_id: str | None, built: datetime) -> Row | None:
        if user_id is None:
            return None
        read, row = self._users.get(user_id, (None, None))
        if read != built:
            row = self._statistics.user_profile(user_id, built)
            self._users[user_id] = built, row
        return row

    def _segment(self, segment: str, built: datetime) -> Row | None:
        """Return a segment's row, possibly from slightly earlier, because segments change slowly."""
        read, row = self._segments.get(segment, (None, None))
        if read is None or built - read >= self._segment_age:
            row = self._statistics.segment_profile(segment, built)
            self._segments[segment] = built, row
        return row


class _Lists:
    """Collects the lists of a replay."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._tasks: list[Task] = []
        self._values: list[Float32s] = []
        self._relevant: list[bool] = []
        self._popularity: list[Floats] = []
        self._items: list[Ints] = []
        self._touched: list[int] = []
        self._segments: list[str] = []

    def add(self, task: Task, matrix: SignalMatrix, view: ItemView, segment: str) -> None:
        self._names = matrix.names
        self._tasks.append(task)
        self._values.append(matrix.values.astype(np.float32))
        self._relevant.extend(item_id in task.relevant for item_id in task.item_ids)
        self._popularity.append(view.popularity)
        self._items.append(view.rows.rows)
        self._touched.append(len(view.rows.touched))
        self._segments.append(segment)

    def replayed(self) -> Replayed:
        lengths = [len(task.item_ids) for task in self._tasks]
        return Replayed(
            times=tuple(task.time for task in self._tasks),
            names=self._names,
            values=np.concatenate(self._values) if lengths else np.zeros((0, 0), np.float32),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.intp),
            relevant=np.array(self._relevant, bool),
            popularity=np.concatenate([np.zeros(0), *self._popularity]),
            items=np.concatenate([np.zeros(0, np.intp), *self._items]),
            askers=Askers(
                _numbered([task.session_id for task in self._tasks]),
                _numbered([task.user_id for task in self._tasks]),
                np.array(self._touched, np.intp),
                tuple(self._segments),
            ),
        )


def _numbered(names: Sequence[str | None]) -> Ints:
    """Number names in the order they occur; -1 for `None`."""
    known: dict[str, int] = {}
    return np.array([-1 if n is None else known.setdefault(n, len(known)) for n in names], np.intp)


def _floor(time: datetime, step: timedelta) -> datetime:
    """Return the last multiple of `step` at or before a time; with no step, the time itself."""
    return time if step == CONTINUOUS else time - (time - EPOCH) % step
