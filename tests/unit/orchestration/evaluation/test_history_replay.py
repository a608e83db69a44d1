"""Replay: nothing of the future, the serving signals, the same numbers as a snapshot of a build."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from feature_repo.contract.validation import Event
from feature_repo.settings import Settings
from orchestration.evaluation.history import History
from orchestration.evaluation.history_replay import Replay, Replayed
from orchestration.evaluation.ranking_tasks import PopularCandidates, find_tasks
from orchestration.evaluation.session_features import ReplaySessions
from tests.support.history_data import START, event, history, shown, tasteful

CANDIDATES = PopularCandidates(100, timedelta(hours=1))


def replayed(past: History, settings: Settings, refresh: timedelta = timedelta(0)) -> Replayed:
    tasks = find_tasks(past, CANDIDATES)
    return Replay(past, ReplaySessions(past, settings), settings, refresh).run(tasks)


def without_future(past: History, upto: int) -> History:
    """The history as if it had ended with the task number `upto`."""
    tasks = [e for e in past.events if e.event_type == "impression"]
    events = tuple(e for e in past.events if e.event_time <= tasks[upto].event_time)
    return History(events, past.catalogue, past.users, past.weights)


@pytest.mark.parametrize("number", [0, 1, 17, 39])
def test_a_list_looks_the_same_whatever_happens_after_it(number: int, settings: Settings) -> None:
    past = tasteful(40)
    whole, cut = replayed(past, settings), replayed(without_future(past, number), settings)
    both = slice(int(whole.offsets[number]), int(whole.offsets[number + 1]))
    assert whole.names == cut.names
    np.testing.assert_array_equal(whole.values[both], cut.values[both])
    np.testing.assert_array_equal(whole.popularity[both], cut.popularity[both])


def test_only_what_lies_strictly_before_counts(settings: Settings) -> None:
    def popularity(click_at: float) -> list[float]:
        found = replayed(
            history(
                [
                    event(1, 0, "impression", items=shown(["a", "b"]), request_id="r1"),
                    event(2, click_at, item_id="b", request_id="r1"),
                    event(3, 100, "impression", items=shown(["a", "b"]), request_id="r2"),
                ]
            ),
            settings,
        )
        return found.popularity[2:].tolist()

    assert popularity(99.999) == pytest.approx([1 / 6, 2 / 6])
    assert popularity(100.0) == pytest.approx([1 / 6, 1 / 6])
    assert popularity(101.0) == pytest.approx([1 / 6, 1 / 6])


def test_the_protocols_popularity_is_clicks_plus_one_over_impressions_plus_five(settings: Settings) -> None:
    found = replayed(
        history(
            [
                event(1, 0, "impression", items=shown(["a", "b"]), request_id="r1"),
                event(2, 10, item_id="b", request_id="r1"),
                event(3, 20, "impression", items=shown(["b", "c"]), request_id="r2"),
            ]
        ),
        settings,
    )
    assert found.popularity.tolist() == pytest.approx([1 / 5, 1 / 5, 2 / 6, 1 / 5])
    assert found.relevant.tolist() == [False, True, False, False]


def test_between_builds_batch_features_stand_still_and_sessions_do_not(settings: Settings) -> None:
    past = history(
        [
            event(1, 0, "impression", items=shown(["a", "b"]), request_id="r1", user_id="u"),
            event(2, 3700, "impression", items=shown(["a", "b"]), request_id="r2", user_id="u"),
            event(3, 3710, item_id="b", request_id="r2", user_id="u"),
            event(4, 3720, "impression", items=shown(["a", "b"]), request_id="r3", user_id="u"),
            event(5, 7300, "impression", items=shown(["a", "b"]), request_id="r4", user_id="u"),
        ]
    )
    hourly = replayed(past, settings, timedelta(hours=1))
    clicks = hourly.values[:, hourly.names.index("log_clicks")].reshape(4, 2)
    touched = hourly.values[:, hourly.names.index("touched")].reshape(4, 2)
    assert clicks[2].tolist() == [0.0, 0.0]
    assert clicks[3].tolist() == pytest.approx([0.0, np.log(2.0)])
    assert touched[2].tolist() == [0.0, 1.0]
    continuous = replayed(past, settings)
    assert continuous.values[:, continuous.names.index("log_clicks")].reshape(4, 2)[2, 1] > 0


def test_a_session_ends_with_its_gap_and_refused_consent_leaves_none(settings: Settings) -> None:
    click = event(1, 0, item_id="a")
    past = history([click])
    sessions = ReplaySessions(past, settings)
    sessions.add([click])
    soon, late = START + timedelta(minutes=29), START + timedelta(minutes=31)
    row = sessions.row("s", soon)
    assert row is not None
    assert row["item_ids"] == ["a"]
    assert sessions.row("s", late) is None
    assert sessions.row("nobody", soon) is None
    sessions.add([event(2, 5, item_id="b", consent=False)])
    assert sessions.row("s", soon) is None


def test_events_of_one_moment_are_folded_by_their_ids_as_the_stream_does(settings: Settings) -> None:
    events: list[Event] = [event(n, 0, item_id=f"i{n}") for n in (3, 1, 2)]
    past = history(events)
    sessions = ReplaySessions(past, settings)
    sessions.add(past.events)
    row = sessions.row("s", START + timedelta(seconds=1))
    assert row is not None
    assert row["item_ids"] == ["i3", "i2", "i1"]


def test_parts_and_choices_of_lists_hold_together(settings: Settings) -> None:
    lists = replayed(tasteful(12), settings)
    part = lists.part(3, 7)
    chosen = lists.keep(np.arange(3, 7))
    for found in (part, chosen):
        assert found.times == lists.times[3:7]
        np.testing.assert_array_equal(found.values, lists.values[lists.offsets[3] : lists.offsets[7]])
        np.testing.assert_array_equal(found.offsets, [0, 8, 16, 24, 32])
    turned = lists.keep(np.array([5, 2]))
    np.testing.assert_array_equal(turned.items[:8], lists.items[lists.offsets[5] : lists.offsets[6]])
    assert turned.times == (lists.times[5], lists.times[2])
    assert len(lists.keep(np.zeros(0, np.intp))) == 0
