"""Tasks: what was to be ranked, and what counts as relevant."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contract.validation import Event
from feature_repo.errors import SettingsError
from orchestration.evaluation.ranking_tasks import PopularCandidates, find_tasks, parse_candidates
from tests.support.history_data import event, history, shown

HOUR = PopularCandidates(3, timedelta(hours=1))


def test_candidates_are_read_from_the_command_line() -> None:
    assert parse_candidates("popular:100:1h") == PopularCandidates(100, timedelta(hours=1))
    assert parse_candidates("popular:20:30d") == PopularCandidates(20, timedelta(days=30))


@pytest.mark.parametrize(
    "text", ["", "popular", "popular:0:1h", "popular:10:1w", "popular:10:-1h", "newest:10:1h"]
)
def test_malformed_candidates_are_explained(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--candidates .*: write popular:COUNT:SPAN .* popular:100:1h"):
        parse_candidates(text)


def test_an_impression_is_a_task_and_engagements_of_its_request_are_relevant() -> None:
    (task,) = find_tasks(
        history(
            [
                event(
                    1, 0, "impression", items=shown(["a", "b", "c"], [3, 2, 1]), request_id="r", user_id="u"
                ),
                event(2, 5, item_id="b", request_id="r", session_id="another tab"),
                event(3, 6, item_id="z", request_id="r"),
                event(4, 7, item_id="a", request_id="never shown", session_id="elsewhere"),
            ]
        ),
        HOUR,
    )
    assert task.item_ids == ("a", "b", "c")
    assert task.scores == (3.0, 2.0, 1.0)
    assert task.relevant == {"b"}
    assert (task.user_id, task.session_id) == ("u", "s")


def test_without_a_request_the_newest_impression_of_the_session_with_the_item_counts() -> None:
    first, second = find_tasks(
        history(
            [
                event(1, 0, "impression", items=shown(["a", "b"])),
                event(2, 10, "impression", items=shown(["a", "c"])),
                event(3, 20, item_id="a"),
                event(4, 21, item_id="b"),
                event(5, 22, item_id="c", session_id="other"),
                event(6, 23, "search", query="a"),
            ]
        ),
        HOUR,
    )
    assert first.relevant == {"b"}
    assert second.relevant == {"a"}


def test_refused_consent_and_lists_of_one_are_no_tasks() -> None:
    found = find_tasks(
        history(
            [
                event(1, 0, "impression", items=shown(["a", "b"]), consent=False),
                event(2, 1, "impression", items=shown(["a"])),
                event(3, 2, "impression", items=shown(["a", "a"])),
                event(4, 3, "impression", items=shown(["a", "b"])),
            ]
        ),
        HOUR,
    )
    assert [task.time for task in found] == [event(4, 3).event_time]


clicks = st.lists(
    st.tuples(st.integers(0, 8000), st.sampled_from("abcdef"), st.sampled_from(["s1", "s2", "s3"])),
    max_size=30,
)


def naive_candidates(events: list[Event], now: Event) -> list[str]:
    """The items most touched within the hour before, less those the session touched before."""
    before = [e for e in events if now.event_time - HOUR.span <= e.event_time < now.event_time]
    counts = Counter(e.item_id for e in before)
    top = sorted(counts, key=lambda i: (-counts[i], i))[: HOUR.count]
    order = events.index(now)
    mine = {e.item_id for e in events[:order] if e.session_id == now.session_id}
    return [] if now.item_id in mine else [i for i in top if i not in mine]


@settings(max_examples=200)
@given(clicks)
def test_popular_candidates_equal_a_count_over_the_hour_before(rows: list[tuple[int, str, str]]) -> None:
    events = [event(n, at, item_id=i, session_id=s) for n, (at, i, s) in enumerate(sorted(rows))]
    found = {(t.time, t.session_id, t.item_ids) for t in find_tasks(history(events), HOUR)}
    wanted = set()
    for now in events:
        candidates = naive_candidates(events, now)
        if len(candidates) > 1:
            wanted.add((now.event_time, now.session_id, tuple(candidates)))
    assert found == wanted


def test_a_sample_is_about_as_large_as_asked_and_always_the_same() -> None:
    events = [event(n, n, "impression", items=shown(["a", "b"])) for n in range(2000)]
    first = find_tasks(history(events), HOUR, max_tasks=500)
    assert 400 < len(first) < 600
    assert first == find_tasks(history(events), HOUR, max_tasks=500)
    assert len(find_tasks(history(events), HOUR, max_tasks=5000)) == 2000
