"""Rows joined to training examples: sessions as of a decision, and rows out of decision records."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.catalogue import catalogue_of
from feature_repo.contract.validation import Event, Item, User
from feature_repo.group import EVENT_TIMESTAMP, DType
from feature_repo.groups import all_groups
from feature_repo.groups.session_profile import Profile, SessionRules, step, touch_of, values
from feature_repo.home import Home
from feature_repo.settings import Settings
from orchestration.training.logged import logged_decisions, logged_rows, row_schema
from orchestration.training.sessions import session_rows
from orchestration.training.split import TEST, TRAIN, VALIDATION, Split
from serving.decisions.hashing import hashed
from serving.decisions.record import TOPIC, Decision, UsedRow, encode_decision
from streaming.log import open_log
from tests.support.decisions import decision as blank
from tests.support.history_data import START, event, shop_items

SETTINGS = Settings()
ITEMS = shop_items(6)
GAP_S = SETTINGS.session_gap_s

# Sessions as of a decision


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    found: list[Event] = []
    for number in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(["impression", "impression", "click", "purchase", "view"]))
        more: dict[str, Any] = {"session_id": draw(st.sampled_from(["s1", "s2"]))}
        if kind != "impression":
            more["item_id"] = f"i{draw(st.integers(0, 7))}"
        elif draw(st.booleans()):
            more["request_id"] = f"r{draw(st.integers(0, 3))}"
        more["user_id"] = draw(st.sampled_from([None, "yes", "no", "said"]))
        more["consent"] = draw(st.sampled_from([None, None, True, False]))
        # Few moments, so that many are equal; now and then a quiet hour that ends the session.
        seconds = draw(st.integers(0, 3)) * 10.0 + draw(st.sampled_from([0.0, 0.0, GAP_S, GAP_S + 25]))
        found.append(event(number, seconds, kind, **more))
    return sorted(found, key=lambda e: (e.session_id, e.event_time, e.event_id))


USERS = [User(user_id="no", consent=False), User(user_id="said", consent=True), User(user_id="yes")]


def consent_of(e: Event, settings: Settings) -> bool | None:
    declared = {"no": False, "said": True}.get(e.user_id or "")
    if declared is False or e.consent is False:
        return False
    stated = declared if e.consent is None else e.consent
    return stated if stated is not None else (None if settings.consent_default else False)


def oracle(events: Sequence[Event], settings: Settings) -> list[tuple[str, datetime, dict[str, Any]]]:
    """Of each impression the fold of all that lies strictly before it in its session, from the beginning."""
    rules, catalogue, found = SessionRules.of(settings), catalogue_of(ITEMS), []
    for shown in events:
        if shown.event_type != "impression":
            continue
        before = [e for e in events if e.session_id == shown.session_id and e.event_time < shown.event_time]
        held: Profile | None = None
        for e in before:
            touch = touch_of(e, settings.weights, consent_of(e, settings))
            held = step(held, touch, catalogue.get(e.item_id) if e.item_id else None, rules)
        if held is None or held.denied:
            continue
        if shown.event_time - before[-1].event_time > min(
            timedelta(seconds=settings.session_gap_s), timedelta(seconds=settings.session_ttl_s)
        ):
            continue
        row = dict(values(held, rules))
        found.append((shown.request_id or shown.event_id, before[-1].event_time, row))
    return found


@pytest.mark.parametrize(
    "settings",
    [SETTINGS, Settings(consent_default=False), Settings(session_ttl_s=600.0)],
    ids=["as they are", "consent asked for", "short-lived"],
)
@given(events=histories())
def test_a_session_row_is_the_fold_of_all_that_lies_strictly_before(
    events: list[Event], settings: Settings
) -> None:
    assert list(session_rows(iter(events), ITEMS, USERS, settings)) == oracle(events, settings)


def test_a_session_counts_as_running_up_to_its_gap_and_no_longer() -> None:
    def rows(seconds: float) -> list[str]:
        events = [event(1, 0, item_id="i1"), event(2, seconds, "impression")]
        return [name for name, _, _ in session_rows(events, ITEMS, [], SETTINGS)]

    assert rows(GAP_S) == ["e000002"]
    assert rows(GAP_S + 1e-6) == []


def test_the_same_request_shown_again_sees_what_came_between() -> None:
    events = [
        event(1, 0, item_id="i1"),
        event(2, 10, "impression", request_id="r"),
        event(3, 10, item_id="i2"),
        event(4, 20, "impression", request_id="r"),
    ]
    found = list(session_rows(events, ITEMS, [], SETTINGS))
    assert [(name, row["item_ids"]) for name, _, row in found] == [("r", ["i1"]), ("r", ["i2", "i1"])]


def test_an_item_of_the_lake_lends_the_session_its_attributes() -> None:
    events = [event(1, 0, item_id="hat"), event(2, 1, "impression")]
    [(_, _, plain)] = session_rows(events, [], [], SETTINGS)
    [(_, _, known)] = session_rows(events, [Item(item_id="hat", categories=("Hats",))], [], SETTINGS)
    assert (plain["attr_keys"], known["attr_keys"]) == ([], ["category:hats"])


# Rows out of decision records


def decision(request: str, time: datetime, **features: UsedRow) -> Decision:
    return blank(request, time, features=features)


def used(time: datetime, **known: Any) -> UsedRow:
    return UsedRow(known, time, cached=False)


GROUPS = {name: all_groups()[name] for name in ("user_profile", "segment_profile", "session_profile")}


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_every_served_row_comes_out_once_whatever_the_size_of_a_batch(size: int) -> None:
    decisions = [
        decision(
            f"r{n}",
            START,
            user=used(START + timedelta(seconds=n), click_rate=float(n)),
            **({"session": used(START, event_count=n)} if n % 2 else {}),
        )
        for n in range(5)
    ]
    found: dict[str, list[dict[str, Any]]] = {}
    for group, batch in logged_rows(iter(decisions), GROUPS, size):
        assert 0 < batch.num_rows <= size
        assert batch.schema == row_schema(group)
        found.setdefault(group.name, []).extend(batch.to_pylist())
    assert found.keys() == {"user_profile", "session_profile"}
    assert [(r["request_id"], r["click_rate"], r[EVENT_TIMESTAMP]) for r in found["user_profile"]] == [
        (f"r{n}", float(n), START + timedelta(seconds=n)) for n in range(5)
    ]
    assert [(r["request_id"], r["event_count"]) for r in found["session_profile"]] == [("r1", 1), ("r3", 3)]


def test_only_the_groups_asked_for_are_taken() -> None:
    both = decision("r", START, user=used(START), session=used(START))
    found = [group.name for group, _ in logged_rows([both], {"user_profile": GROUPS["user_profile"]})]
    assert found == ["user_profile"]


@pytest.mark.parametrize("name", sorted(GROUPS))
def test_a_row_survives_the_record_it_went_through(name: str) -> None:
    """Times are text in JSON and come back as times; the hash of a person's id does not come back."""
    group = GROUPS[name]
    samples: dict[DType, Any] = {
        DType.STRING: "a",
        DType.INT64: 3,
        DType.FLOAT64: 0.5,
        DType.BOOL: True,
        DType.TIMESTAMP: START,
        DType.STRINGS: ["a", "b"],
        DType.INT64S: [1, 2],
        DType.FLOAT64S: [0.5],
        DType.FLOAT32S: [0.5],
    }
    row = {f.name: samples[f.dtype] for f in group.features}
    served = {**row, "user_id": hashed("anna", "salt")} if "user_id" in row else row
    raw = encode_decision(decision("r", START, **{GROUPS[name].ranked_as: used(START, **served)}))
    [(_, batch)] = logged_rows([msgspec.json.decode(raw, type=Decision)], {name: group})
    [found] = batch.to_pylist()
    expected = {**row, "user_id": None} if "user_id" in row else row
    assert found == {"request_id": "r", EVENT_TIMESTAMP: START, **expected}


def test_decisions_of_the_days_asked_for_come_out_of_the_log(
    settings: Settings, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    days = [date(2024, 5, day) for day in (1, 2, 3, 4)]
    assert list(logged_decisions(settings, home, days[0], days[-1])) == []
    assert not home.log.exists(), "asking makes no log"
    log = open_log(settings, home, TOPIC)
    moments = [datetime(2024, 5, d, h, tzinfo=UTC) for d in (1, 2, 3, 4) for h in (0, 23)]
    log.publish([(f"r{n}", encode_decision(decision(f"r{n}", at))) for n, at in enumerate(moments)])
    log.publish([("x", b'{"record": "event"}'), ("y", b"{")])
    log.close()
    with caplog.at_level(logging.WARNING):
        found = {d.request_id for d in logged_decisions(settings, home, days[1], days[2])}
    assert found == {"r2", "r3", "r4", "r5"}
    assert "2 records of decisions are not decisions" in caplog.text


# Splits


@given(
    st.lists(st.integers(0, 10_000), min_size=1, max_size=60),
    st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.0, 0.5, 0.5), (1.0, 0.0, 0.0)]),
    st.integers(0, 3000),
)
def test_splits_lie_in_order_of_time_with_the_embargo_between_them(
    seconds: list[int], shares: tuple[float, float, float], embargo_s: int
) -> None:
    times = sorted(START + timedelta(seconds=s) for s in seconds)
    embargo = timedelta(seconds=embargo_s)
    split = Split.of(times, shares, embargo)
    named: dict[str | None, list[datetime]] = {}
    for time in times:
        named.setdefault(split.name(time), []).append(time)
    order = [named[name] for name in (TRAIN, VALIDATION, TEST) if name in named]
    for before, after in pairwise(order):
        assert max(before) < min(after)
    for name, later in ((TRAIN, split.validation_from), (VALIDATION, split.test_from)):
        assert all(time < later - embargo for time in named.get(name, []))
    # Without an embargo the shares hold but for equal times: no bound lies beyond the decision it names.
    n = len(times)
    assert split.validation_from == times[min(int(n * shares[0]), n - 1)]
    assert split.test_from == times[min(int(n * (shares[0] + shares[1])), n - 1)]
    assert sum(map(len, named.values())) == n


def test_the_shares_of_ten_decisions() -> None:
    times = [START + timedelta(hours=n) for n in range(10)]
    split = Split.of(times, (0.6, 0.2, 0.2), timedelta(0))
    names = [split.name(time) for time in times]
    assert names == [TRAIN] * 6 + [VALIDATION] * 2 + [TEST] * 2


@given(st.integers(1, 200), st.sampled_from([(0.7, 0.1, 0.2), (0.6, 0.1, 0.3), (0.8, 0.1, 0.1)]))
def test_shares_are_rounded_as_decimals_are(n: int, shares: tuple[float, float, float]) -> None:
    """0.7 + 0.1 is a little less than 0.8 in binary, which must not cost validation a decision."""
    times = [START + timedelta(hours=k) for k in range(n)]
    split = Split.of(times, shares, timedelta(0))
    tenths = round(10 * (shares[0] + shares[1]))
    assert split.test_from == times[min(n * tenths // 10, n - 1)]
    assert split.validation_from == times[min(n * round(10 * shares[0]) // 10, n - 1)]
