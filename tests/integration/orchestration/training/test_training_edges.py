"""Training sets where requests repeat, windows are not over, inputs change: what must not leak or double."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from feature_repo.contract.validation import Event, ShownItem, User
from feature_repo.errors import BuildError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from orchestration.training.card import Card
from orchestration.training.dataset import TrainingSet, training_folder
from orchestration.training.logged import logged_decisions
from orchestration.training.spec import TrainingSpec
from serving.decisions.record import TOPIC, Decision, UsedRow, encode_decision
from streaming.log import open_log
from tests.integration.orchestration.defs.test_training_set import decision
from tests.integration.quality.checks.test_parity import decide
from tests.support.offline import event, write_events, write_records

DAY = date(2024, 5, 30)
T0 = datetime(2024, 5, 30, 12, tzinfo=UTC)
SPEC = TrainingSpec(DAY, DAY, shares=(0.0, 0.0, 1.0))


def shown(number: int, minutes: float, request: str | None, *items: str, session: str = "s") -> Event:
    return event(
        number,
        T0 + timedelta(minutes=minutes),
        event_type="impression",
        item_id=None,
        items=tuple(ShownItem(i) for i in items),
        session_id=session,
        request_id=request,
    )


def click(number: int, minutes: float, item: str, request: str | None = None) -> Event:
    return event(number, T0 + timedelta(minutes=minutes), item_id=item, session_id="s", request_id=request)


def make(settings: Settings, home: Home, now: datetime, **more: Any) -> tuple[Card, list[dict[str, Any]]]:
    card = TrainingSet(SPEC, settings, home, lambda: now, **more).make()
    rows = pq.read_table(training_folder(home) / "data.parquet", partitioning=None).to_pylist()
    return card, rows


LATER = T0 + timedelta(days=2)


def test_a_request_shown_in_pages_is_one_decision_and_no_row_doubles(settings: Settings, home: Home) -> None:
    write_events(
        Lake(home.lake),
        DAY,
        [
            click(1, -5, "x"),
            shown(2, 0, "r", "a", "b"),
            click(3, 1, "a", "r"),
            shown(4, 2, "r", "c", "d"),
            click(5, 3, "c", "r"),
            shown(6, 4, "r", "a", "b"),  # the first page again
        ],
    )
    _, rows = make(settings, home, LATER)
    assert [(r["item_id"], r["position"], r["label_click"]) for r in rows] == [
        ("a", 0, True),
        ("b", 1, False),
        ("c", 2, True),
        ("d", 3, False),
    ]
    assert {r["decision_time"] for r in rows} == {T0}
    # Of the session only what came before the first page: neither the page nor the click on it.
    assert {tuple(r["session_profile__item_ids"]) for r in rows} == {("x",)}
    assert {r["session_profile__event_time"] for r in rows} == {T0 - timedelta(minutes=5)}


def test_a_session_that_begins_with_the_list_knows_nothing(settings: Settings, home: Home) -> None:
    write_events(Lake(home.lake), DAY, [shown(1, 0, "r", "a"), click(2, 1, "a", "r"), shown(3, 2, "r", "a")])
    _, rows = make(settings, home, LATER)
    assert [(r["item_id"], r["session_profile__source"], r["session_profile__item_ids"]) for r in rows] == [
        ("a", "none", None)
    ]


def test_an_event_at_the_very_moment_of_the_list_is_no_feature_but_a_label(
    settings: Settings, home: Home
) -> None:
    write_events(Lake(home.lake), DAY, [click(1, -1, "x"), click(2, 0, "a"), shown(3, 0, "r", "a")])
    _, [row] = make(settings, home, LATER)
    assert (row["session_profile__item_ids"], row["label_click"]) == (["x"], True)


@pytest.mark.parametrize(("minutes", "requests"), [(60, ["r1"]), (59.99, []), (120, ["r1", "r2"])])
def test_lists_whose_window_is_not_over_are_no_negatives_yet(
    settings: Settings, home: Home, minutes: float, requests: list[str]
) -> None:
    write_events(Lake(home.lake), DAY, [shown(1, 0, "r1", "a"), shown(2, 30, "r2", "a", session="t")])
    now = T0 + timedelta(minutes=minutes)
    if not requests:
        with pytest.raises(BuildError, match="have no impression"):
            make(settings, home, now)
        return
    card, rows = make(settings, home, now)
    assert [r["request_id"] for r in rows] == requests
    assert card.unfinished == 2 - len(requests)
    assert f"because their labels may still arrive: {card.unfinished}." in card.markdown()


def test_the_hash_of_the_inputs_follows_users_rules_and_decisions(settings: Settings, home: Home) -> None:
    lake = Lake(home.lake)
    write_events(lake, DAY, [click(1, -5, "x"), shown(2, 0, "r", "a")])

    def inputs(given: Settings = settings, decisions: list[Decision] | None = None) -> str:
        return make(given, home, LATER, decisions=decisions or [])[0].inputs

    plain = inputs()
    assert inputs() == plain
    used = UsedRow({"segment": "all"}, T0, False)
    seen = {
        plain,
        inputs(settings.model_copy(update={"session_gap_s": 60.0})),
        inputs(decisions=[decision("r", user=used)]),
    }
    write_records(lake, users=[User(user_id="u", consent=True)])
    assert len(seen | {inputs()}) == 4


def test_decisions_of_the_days_are_read_from_the_log_once_each(settings: Settings, home: Home) -> None:
    assert list(logged_decisions(settings, home, DAY, DAY)) == []
    log = open_log(settings, home, TOPIC)
    for n in range(6):
        made = msgspec.structs.replace(decide(settings, n, {}), time=T0 + timedelta(days=n - 2))
        log.publish([(made.request_id, encode_decision(made))])
    log.close()
    found = logged_decisions(settings, home, DAY - timedelta(days=1), DAY + timedelta(days=1))
    assert sorted(d.request_id for d in found) == ["r1", "r2", "r3"]


def came(number: int, minutes: float, ahead: timedelta, **fields: Any) -> tuple[Event, datetime]:
    """An event stamped ahead of when it came."""
    at = T0 + timedelta(minutes=minutes)
    given = {"session_id": "s", "user_id": "u", "item_id": f"i{number}", **fields}
    return event(number, at + ahead, **given), at


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(hours=24)])
@pytest.mark.parametrize("start", [0.0, 715.0])  # at noon; five minutes to midnight
def test_events_stamped_ahead_give_the_rows_of_a_right_clock(
    settings: Settings, tmp_path: Path, ahead: timedelta, start: float
) -> None:
    """One of the session, one that is the label; in files of later days, too."""
    made = []
    for name, off in (("right", timedelta(0)), ("ahead", ahead)):
        home = Home(tmp_path / name).ensure()
        request = {"request_id": "r"}
        stamped = [
            came(1, start, timedelta(0)),
            came(2, start + 1, off),
            came(3, start + 2, timedelta(0)),
            (shown(4, start + 3, "r", "a", "b"), T0 + timedelta(minutes=start + 3)),
            came(5, start + 10, off, item_id="a", **request),
            came(6, start + 11, timedelta(0), item_id="b", event_type="purchase", **request),
        ]
        for n, (one, at) in enumerate(stamped):
            write_events(Lake(home.lake), one.event_time.date(), [one], f"part-{n}", at)
        _, rows = make(settings.model_copy(update={"home": home.root}), home, T0 + timedelta(days=4))
        made.append(rows)
    assert made[0] == made[1]
    assert [(r["item_id"], r["label_click"], r["label_purchase"]) for r in made[1]] == [
        ("a", True, False),
        ("b", False, True),
    ]
    assert {tuple(r["session_profile__item_ids"]) for r in made[1]} == {("i3", "i2", "i1")}
