"""The idempotent, order-proof session fold against an oracle: sort what was admitted, fold from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from feature_repo.catalogue import ItemFacts
from feature_repo.groups.session_profile import Profile, SessionRules, Touch, step, values
from streaming.sessions import session_fold as fold_module
from streaming.sessions.seen_ids import SEEN_IDS, among
from streaming.sessions.session_fold import FoldRules, Session, last_of, profile_of

S = 1_000_000
T0 = 1_717_243_200 * S
RULES = FoldRules(SessionRules(gap_us=1800 * S, half_life_us=1800.0 * S), 600 * S, 3600 * S, 86_400 * S)
CATALOGUE = {
    f"i{n}": ItemFacts(
        f"i{n}", attr_keys=(f"category:c{n % 5}", f"brand:b{n % 7}"), price=float(n) if n % 3 else None
    )
    for n in range(40)
}


def touch(at_s: float, event_id: str, **more: Any) -> Touch:
    fields = {"kind": "view", "weight": 1.0, "item_id": "i1", **more}
    return Touch(T0 + int(at_s * S), event_id, **fields)


def run(touches: Sequence[Touch], chunk: int = 1) -> tuple[bytes | None, list[str]]:
    """Feed touches in arrival order, encoding and decoding the session between chunks, as the stream does."""
    raw: bytes | None = None
    outcomes: list[str] = []
    for start in range(0, len(touches), chunk):
        session = Session(raw, RULES, CATALOGUE)
        outcomes += [session.fold(t) for t in touches[start : start + chunk]]
        raw = session.encode()
    return raw, outcomes


def oracle(touches: Sequence[Touch]) -> tuple[dict[str, Any], list[str]]:
    """Admit by the rules as stated in the docs, then fold everything admitted in order, from nothing."""
    admitted: list[Touch] = []
    seen: set[str] = set()
    outcomes = []
    for t in touches:
        if t.event_id in seen:
            outcomes.append("duplicate")
        elif admitted and t.time_us < max(a.time_us for a in admitted) - RULES.lateness_us:
            outcomes.append("late")
            if t.consent is False:  # it counts from the newest event on
                seen.add(t.event_id)
                newest = max(admitted, key=lambda a: (a.time_us, a.event_id))
                if t.user_id is None or fold_sorted(admitted).user_id in (None, t.user_id):
                    admitted.append(replace(t, time_us=newest.time_us, event_id=f"{newest.event_id}\x7f"))
        else:
            outcomes.append("folded")
            seen.add(t.event_id)
            admitted.append(t)
    return values(fold_sorted(admitted), RULES.session), outcomes


def fold_sorted(admitted: Sequence[Touch]) -> Profile:
    profile = None
    for t in sorted(admitted, key=lambda t: (t.time_us, t.event_id)):
        profile = step(profile, t, CATALOGUE.get(t.item_id or ""), RULES.session)
    assert profile is not None
    return profile


KINDS = {"view": 1.0, "click": 1.0, "add_to_cart": 3.0, "purchase": 5.0, "search": 0.0, "bookmark": 2.0}


@st.composite
def arrivals(draw: st.DrawFn) -> list[Touch]:
    """Events of one session over up to 50 minutes, out of order, some repeated."""
    count = draw(st.integers(1, 60))
    touches = []
    for n in range(count):
        kind = draw(st.sampled_from(list(KINDS)))
        touches.append(
            Touch(
                T0 + draw(st.integers(0, 3000)) * S,
                f"e{n}",
                kind,
                KINDS[kind],
                None if kind == "search" else f"i{draw(st.integers(0, 45))}",
                draw(st.sampled_from([None, None, None, "anna", "ben"])),
                f"q{n % 4}" if kind == "search" else None,
                draw(st.sampled_from([None] * 15 + [False, True])),
            )
        )
    order = draw(st.sampled_from(["as drawn", "sorted", "nearly"]))
    if order == "sorted":
        touches.sort(key=lambda t: t.time_us)
    elif order == "nearly":
        touches.sort(key=lambda t: t.time_us + int(t.event_id[1:]) * 7919 % 500 * S)
    return touches + draw(st.lists(st.sampled_from(touches), max_size=10))


@settings(max_examples=300, deadline=None)
@given(arrivals(), st.integers(1, 20))
def test_equals_the_fold_over_the_sorted_events(touches: list[Touch], chunk: int) -> None:
    raw, outcomes = run(touches, chunk)
    expected, expected_outcomes = oracle(touches)
    assert raw is not None
    # An id is remembered for the dedup horizon only, but within it a repeat is too late or known.
    assert [o == "folded" for o in outcomes] == [o == "folded" for o in expected_outcomes]
    assert values(profile_of(raw), RULES.session) == expected


@settings(max_examples=100, deadline=None)
@given(arrivals(), st.integers(0, 60))
def test_replaying_a_stretch_changes_nothing(touches: list[Touch], back: int) -> None:
    """At-least-once: after a crash the log is read again from an older position, the state being ahead."""
    raw, _ = run(touches)
    again, _ = run(touches + touches[-back:] if back else touches)
    assert raw is not None
    assert again is not None
    assert values(profile_of(again), RULES.session) == values(profile_of(raw), RULES.session)


def test_a_repeat_with_another_time_is_known_by_its_id() -> None:
    raw, outcomes = run([touch(0, "a"), touch(1000, "b"), touch(1001, "a")])
    assert outcomes == ["folded", "folded", "duplicate"]
    assert raw is not None
    assert profile_of(raw).event_count == 2


def test_an_id_beyond_the_horizon_is_forgotten() -> None:
    beyond = RULES.dedup_us / S + 1
    far = [touch(n * 100, f"x{n}") for n in range(80)]
    assert far[-1].time_us - far[0].time_us > beyond * S
    raw, _ = run(far)
    session = Session(raw, RULES, CATALOGUE)
    assert session.fold(touch(79 * 100 + 1, "x79")) == "duplicate"
    assert session.fold(touch(79 * 100 + 2, "x0")) == "folded"


def test_lateness_is_inclusive_and_later_is_left_out() -> None:
    raw, outcomes = run([touch(600, "a"), touch(0, "b"), touch(-0.000001, "c")])
    assert outcomes == ["folded", "folded", "late"]
    assert raw is not None
    assert profile_of(raw).started_us == T0


def test_a_late_event_may_bridge_a_gap() -> None:
    rules = FoldRules(RULES.session, 3600 * S, 3600 * S, RULES.ttl_us)
    session = Session(None, rules, CATALOGUE)
    session.fold(touch(0, "a"))
    session.fold(touch(2000, "b"))
    assert session.profile is not None
    assert session.profile.event_count == 1
    session.fold(touch(1000, "c"))
    assert session.profile.event_count == 3


def test_state_stays_bounded_whatever_a_bot_sends() -> None:
    sizes = []
    raw: bytes | None = None
    for n in range(6000):
        session = Session(raw, RULES, CATALOGUE)
        session.fold(touch(n * 0.01, f"e{n}", item_id=f"i{n}", query=f"q{n}"))
        raw = session.encode()
        sizes.append(len(raw))
    assert max(sizes[5000:]) < 12 * (SEEN_IDS + 32) + 100 * (fold_module.RECENT_EVENTS + 32) + 8000


def test_the_last_time_is_read_without_decoding() -> None:
    raw, _ = run([touch(5, "a"), touch(7, "b"), touch(6, "c")])
    assert raw is not None
    assert last_of(raw) == T0 + 7 * S
    early = Session(None, RULES, CATALOGUE)
    early.fold(Touch(5, "a", "view", 1.0, "i1"))
    assert last_of(early.encode()) == 5


class _Poison(dict[str, ItemFacts]):
    def get(self, key: str, default: Any = None) -> Any:
        if key == "poison":
            message = "no fold for this"
            raise RuntimeError(message)
        return super().get(key, default)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("late", [False, True])
def test_a_poison_event_leaves_the_session_as_it_was(place: int, late: bool) -> None:
    good = [touch(10, "a"), touch(20, "b", item_id="i2")]
    session = Session(None, RULES, _Poison(CATALOGUE))
    for t in good[:place]:
        session.fold(t)
    with pytest.raises(RuntimeError):
        session.fold(touch(5 if late else 30, "p", item_id="poison"))
    for t in good[place:]:
        session.fold(t)
    assert session.profile is not None
    assert values(session.profile, RULES.session) == oracle(good)[0]


def test_an_id_is_found_only_where_an_entry_begins() -> None:
    code = bytes(range(8))
    assert among(code + b"\0\0\0\0", code)
    assert not among(b"\0" + code + b"\0\0\0", code)
    assert among(b"\0" + code + b"\0\0\0" + code + b"\0\0\0\0", code)


def denied(session: Session) -> bool:
    assert session.profile is not None
    return session.profile.denied


def test_consent_withdrawn_late_ends_the_session_as_of_now() -> None:
    denial = touch(0, "no", consent=False)
    session = Session(None, RULES, CATALOGUE)
    session.fold(touch(60, "a", user_id="anna"))
    session.fold(touch(1200, "b"))
    assert session.fold(denial) == "late"
    assert denied(session)
    assert session.erased == [("anna", T0 + 60 * S)]
    session.fold(touch(1300, "c", consent=True))
    assert session.fold(denial) == "duplicate"
    assert not denied(session)


def test_a_late_denial_by_the_user_before_spares_the_one_who_has_the_device_now() -> None:
    session = Session(None, RULES, CATALOGUE)
    session.fold(touch(0, "a", user_id="anna"))
    session.fold(touch(1200, "b", user_id="ben"))
    assert session.fold(touch(10, "no", user_id="anna", consent=False)) == "late"
    assert not denied(session)


def test_a_denial_later_than_ids_are_remembered_counts_no_more() -> None:
    session = Session(None, RULES, CATALOGUE)
    session.fold(touch(RULES.dedup_us / S + 1, "a"))
    assert session.fold(touch(0, "no", consent=False)) == "late"
    assert not denied(session)


def test_ids_are_remembered_beyond_the_year_2038() -> None:
    late = (2**31 + 5) * S
    raw, outcomes = run([Touch(late + n * S, f"e{n}", "view", 1.0) for n in (0, 1, 0)])
    assert outcomes == ["folded", "folded", "duplicate"]
    assert raw is not None
    assert profile_of(raw).event_count == 2
