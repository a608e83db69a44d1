"""Who denies consent today is in no training set, whatever was shown, built or logged before."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest

from feature_repo.contract.validation import Event, ShownItem, User
from feature_repo.errors import BuildError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from orchestration.training.card import Card
from orchestration.training.dataset import TrainingSet, training_folder
from orchestration.training.spec import TrainingSpec
from tests.support.offline import event, write_events, write_records

DAY = date(2024, 5, 30)
T0 = datetime(2024, 5, 30, 12, tzinfo=UTC)
SPEC = TrainingSpec(DAY, DAY, shares=(0.0, 0.0, 1.0))


def visit(n: int, user: str | None, shown: bool | None = None, clicked: bool | None = None) -> list[Event]:
    """A view, a list of two, and a click on its first; what the list and the click state of consent."""
    at = T0 + timedelta(minutes=n)
    same: dict[str, Any] = {"user_id": user, "session_id": f"s{n}"}
    items = (ShownItem("a"), ShownItem("b"))
    of_list = {"event_type": "impression", "item_id": None, "items": items, "request_id": f"r{n}"}
    return [
        event(10 * n, at, event_type="view", item_id="x", **same),
        event(10 * n + 1, at + timedelta(seconds=1), consent=shown, **of_list, **same),
        event(
            10 * n + 2, at + timedelta(seconds=2), item_id="a", request_id=f"r{n}", consent=clicked, **same
        ),
    ]


def make(settings: Settings, home: Home) -> tuple[Card, list[tuple[Any, ...]]]:
    card = TrainingSet(SPEC, settings, home, lambda: T0 + timedelta(days=2)).make()
    rows = pq.read_table(training_folder(home) / "data.parquet", partitioning=None).to_pylist()
    return card, [(r["request_id"], r["user_id"], r["item_id"], r["label_click"]) for r in rows]


def rows_of(n: int, user: str | None, label: bool = True) -> list[tuple[Any, ...]]:
    return [(f"r{n}", user, "a", label), (f"r{n}", user, "b", False)]


def test_what_is_not_permitted_today_does_not_enter_and_is_counted(settings: Settings, home: Home) -> None:
    lake = Lake(home.lake)
    visits = [
        visit(1, "gave"),
        visit(2, "denied"),
        visit(3, "denied", shown=True),  # the user's denial holds whatever an event says
        visit(4, "silent", shown=False),
        visit(5, "silent", clicked=False),
        visit(6, None),
        visit(7, "silent"),
    ]
    write_events(lake, DAY, [e for events in visits for e in events])
    write_records(lake, users=[User(user_id="denied", consent=False), User(user_id="gave", consent=True)])

    card, rows = make(settings, home)
    assert rows == [
        *rows_of(1, "gave"),
        *rows_of(5, "silent", label=False),
        *rows_of(6, None),
        *rows_of(7, "silent"),
    ]
    assert (card.unpermitted, card.unpermitted_events) == (3, 5)
    assert "not permitted today: 3 lists, 5 other events." in card.markdown()

    by_word, rows = make(settings.model_copy(update={"consent_default": False}), home)
    assert rows == rows_of(1, "gave"), "silence is a denial then"
    assert by_word.inputs != card.inputs


def test_a_denial_takes_the_examples_out_and_consent_brings_them_back(settings: Settings, home: Home) -> None:
    lake = Lake(home.lake)
    write_events(lake, DAY, [*visit(1, "u"), *visit(2, "v")])
    first, rows = make(settings, home)
    assert rows == [*rows_of(1, "u"), *rows_of(2, "v")]

    write_records(lake, users=[User(user_id="u", consent=False)])
    denied, rows = make(settings, home)
    assert rows == rows_of(2, "v")
    assert (denied.unpermitted, denied.inputs != first.inputs) == (1, True)

    write_records(lake, users=[User(user_id="u")])  # the newest record states nothing: nothing is denied
    assert make(settings, home)[1] == [*rows_of(1, "u"), *rows_of(2, "v")]


def test_days_of_people_who_deny_say_so(settings: Settings, home: Home) -> None:
    lake = Lake(home.lake)
    write_events(lake, DAY, visit(1, "u"))
    write_records(lake, users=[User(user_id="u", consent=False)])
    with pytest.raises(BuildError, match="no impression but 1 of people who do not permit personalization"):
        make(settings, home)
