"""Ranking tasks in a history: the list, the time, the user, and the items that turned out relevant."""

from __future__ import annotations

import heapq
import re
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import xxhash

from feature_repo.contract.validation import Event
from feature_repo.errors import SettingsError, SourceError
from orchestration.evaluation.history import History

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_HASH_SPACE = 2**32


@dataclass(frozen=True, slots=True)
class Task:
    """One list to rank, as of just before `time`; `relevant` are the items engaged with because of it."""

    time: datetime
    user_id: str | None
    session_id: str
    item_ids: tuple[str, ...]
    scores: tuple[float | None, ...]
    relevant: frozenset[str]


@dataclass(frozen=True, slots=True)
class PopularCandidates:
    """Candidates if the data has no impressions: the items most touched within `span` before an event."""

    count: int
    span: timedelta


def parse_candidates(text: str) -> PopularCandidates:
    """Parse ``popular:100:1h``.

    Raises:
        SettingsError: the text is malformed; the message shows the format.
    """
    match = re.fullmatch(r"popular:([1-9]\d{0,4}):([1-9]\d{0,5})([smhd])", text)
    if match is None:
        msg = f"--candidates {text!r}: write popular:COUNT:SPAN with a span in s, m, h or d: popular:100:1h"
        raise SettingsError(msg)
    return PopularCandidates(int(match[1]), timedelta(seconds=int(match[2]) * _UNITS[match[3]]))


def find_tasks(
    history: History, candidates: PopularCandidates, max_tasks: int | None = None, label: str | None = None
) -> list[Task]:
    """All tasks in time order: the impressions, or where there are none one for each engagement.

    Args:
        max_tasks: about as many are kept, chosen by a hash of the event id; `None` keeps all.
        label: the event type that makes an item relevant; `None` for every engagement.

    Raises:
        SourceError: no event has the label.
    """
    if label is not None and not any(e.event_type == label and e.item_id for e in history.events):
        known = ", ".join(sorted({e.event_type for e in history.events if e.item_id}))
        msg = f"--label {label}: no event of that type names an item; there are: {known}"
        raise SourceError(msg)
    impressions = [e for e in history.events if e.event_type == "impression" and history.permits(e)]
    if impressions:
        return _of_impressions(history, impressions, max_tasks, label)
    return _of_engagements(history, candidates, max_tasks, label)


def _of_impressions(
    history: History, impressions: Sequence[Event], max_tasks: int | None, label: str | None
) -> list[Task]:
    relevant = _relevance(history, label)
    chosen = _sample(len(impressions), max_tasks)
    return [
        Task(
            time=event.event_time,
            user_id=event.user_id,
            session_id=event.session_id,
            item_ids=tuple(slots),
            scores=tuple(slots.values()),
            relevant=frozenset(relevant.get(event.event_id, ())),
        )
        for event in impressions
        if chosen(event) and len(slots := {slot.item_id: slot.score for slot in event.items}) > 1
    ]


def _counts(history: History, event: Event, label: str | None) -> bool:
    """Whether an event makes its item relevant."""
    return history.engages(event) if label is None else event.event_type == label


def _relevance(history: History, label: str | None) -> dict[str, set[str]]:
    """Items engaged with by impression.

    An engagement belongs to the impression of its request; without a request, to the newest impression of its
    session that shows the item.
    """
    of_request = {e.request_id: e for e in history.events if e.event_type == "impression" and e.request_id}
    by_session: dict[str, list[Event]] = {}
    relevant: dict[str, set[str]] = {}
    for event in history.events:
        if event.event_type == "impression":
            by_session.setdefault(event.session_id, []).append(event)
        elif event.item_id is not None and _counts(history, event, label):
            shown = of_request.get(event.request_id) if event.request_id else None
            if shown is None:
                shown = _newest_showing(by_session.get(event.session_id, ()), event.item_id)
            if shown is not None and any(slot.item_id == event.item_id for slot in shown.items):
                relevant.setdefault(shown.event_id, set()).add(event.item_id)
    return relevant


def _newest_showing(impressions: Sequence[Event], item_id: str) -> Event | None:
    for impression in reversed(impressions):
        if any(slot.item_id == item_id for slot in impression.items):
            return impression
    return None


def _of_engagements(
    history: History, candidates: PopularCandidates, max_tasks: int | None, label: str | None
) -> list[Task]:
    """One task for each item of a session that counts, when it does so first: by default its first touch.

    Items that counted before in the session are no candidates; with a label, items merely touched are.
    """
    engagements = [e for e in history.events if history.engages(e) or (e.item_id and e.event_type == label)]
    chosen = _sample(sum(_counts(history, e, label) for e in engagements), max_tasks)
    recent: deque[Event] = deque()
    counts: Counter[str] = Counter()
    counted: dict[str, set[str]] = {}
    tasks: list[Task] = []
    newest = 0
    for event in engagements:
        while engagements[newest].event_time < event.event_time:
            recent.append(engagements[newest])
            counts[engagements[newest].item_id or ""] += 1
            newest += 1
        while recent and recent[0].event_time < event.event_time - candidates.span:
            item_id = recent.popleft().item_id or ""
            counts[item_id] -= 1
            if not counts[item_id]:
                del counts[item_id]
        if not _counts(history, event, label):
            continue
        mine = counted.setdefault(event.session_id, set())
        if event.item_id not in mine and history.permits(event) and chosen(event):
            top = _most_touched(counts, candidates.count, mine)
            if len(top) > 1:
                tasks.append(_task(event, top))
        mine.add(event.item_id or "")
    return tasks


def _most_touched(counts: Counter[str], limit: int, left_out: set[str]) -> list[tuple[str, int]]:
    """Return the `limit` items with the highest counts, except those left out; ties by item id."""
    top = heapq.nsmallest(limit, counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [pair for pair in top if pair[0] not in left_out]


def _task(event: Event, top: Sequence[tuple[str, int]]) -> Task:
    return Task(
        time=event.event_time,
        user_id=event.user_id,
        session_id=event.session_id,
        item_ids=tuple(item_id for item_id, _ in top),
        scores=tuple(float(count) for _, count in top),
        relevant=frozenset({event.item_id or ""}),
    )


def _sample(total: int, wanted: int | None) -> Callable[[Event], bool]:
    if wanted is None or total <= wanted:
        return lambda event: True
    bound = int(_HASH_SPACE * wanted / total)
    return lambda event: xxhash.xxh32_intdigest(event.event_id.encode()) < bound
