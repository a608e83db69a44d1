"""The decisions of single stages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feature_repo.errors import StoreError
from feature_repo.groups.item_neighbours import GROUP as NEIGHBOURS
from feature_repo.groups.item_profile import GROUP as ITEMS
from feature_repo.groups.session_profile import LAST_ITEMS, Profile, SessionRules, Touch, step, values
from feature_repo.groups.user_recent import merge
from feature_repo.settings import BUILTIN_EVENT_WEIGHTS
from serving.control.flags import Flags
from serving.control.reloading import Model
from serving.control.rules import Exclude, Rules
from serving.features.ranked_groups import ranked_groups
from serving.features.reader import FeatureReader
from serving.items.item_snapshot import ItemSnapshot
from serving.pipeline.blend import BlendStage
from serving.pipeline.context import Row
from serving.pipeline.features import FeaturesStage
from serving.pipeline.permission import ConsentStage, FlagsStage
from serving.pipeline.rules import RulesStage, bought_in
from serving.pipeline.runner import Ranker
from serving.pipeline.stage import Stage
from serving.schemas.rank_request import Candidate, RankRequest
from serving.schemas.rank_response import RankAnswer, Tier
from serving.scoring.blend import Blend, Gate
from tests.support.feature_source import LIMITS, FakeSource
from tests.support.feature_source import NOW as NOON
from tests.support.ranking_data import AS_OF, item, neighbours_table, profile, session, snapshot

NOW = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "bought"),
    [
        (None, set()),
        ({}, set()),
        ({"item_ids": ["a", "b"], "item_weights": [6.0, 1.0], "purchase_count": 1}, {"a"}),
        ({"item_ids": ["a", "b"], "item_weights": [6.0, 1.0], "purchase_count": 0}, set()),
        ({"item_ids": ["a"], "item_weights": [6.0]}, set()),
        ({"item_ids": ["a", "b"], "item_weights": [5.0, 9.0], "purchase_count": 1}, {"b"}),
        ({"item_ids": ["a", "b"], "item_weights": [5.0, 9.0], "purchase_count": 2}, {"a", "b"}),
        ({"item_ids": ["a", "c"], "item_weights": [5.0, 9.0], "purchase_count": 1}, {"a"}),
        ({"purchased_items": ["a", "b", "c"], "purchase_count_90d": 9}, {"a", "b"}),
        ({"purchased_items": []}, set()),
        ({"purchased_items": None}, set()),
    ],
)
def test_what_a_session_a_day_or_a_profile_bought(values: dict[str, Any] | None, bought: set[str]) -> None:
    assert bought_in(None if values is None else Row(values, NOW), 5.0, {"c"}) == bought


RULES = SessionRules(gap_us=10**12, half_life_us=1e9)


@given(
    st.lists(
        st.tuples(st.sampled_from(["view", "click", "purchase"]), st.integers(0, LAST_ITEMS - 1)), max_size=40
    ),
    st.integers(0, 40),
)
@example([*[("view", 1)] * 4, ("purchase", 0), ("view", 1)], 0)
def test_what_was_bought_is_told_where_nothing_else_weighs_as_much(
    events: list[tuple[str, int]], cut: int
) -> None:
    """Compare with the events of one session, and of two merged ones."""
    kept = [e for place, e in enumerate(events) if e[0] == "purchase" or e not in events[:place]]
    bought = {f"i{n}" for kind, n in kept if kind == "purchase"}
    runs: list[Profile | None] = [None, None]
    for at, (kind, n) in enumerate(kept):
        touch = Touch(at, f"e{at}", kind, BUILTIN_EVENT_WEIGHTS[kind], f"i{n}", "u")
        runs[at >= cut] = step(runs[at >= cut], touch, None, RULES)
    day = [run for run in runs if run is not None]
    if not day:
        return
    assert bought_in(Row(merge(day, RULES), NOW), 5.0) == bought
    each = [bought_in(Row(values(run, RULES), NOW), 5.0) for run in day]
    assert frozenset().union(*each) == bought


SECOND = timedelta(seconds=1)
TASTE = Row(profile({"category:x": (9.0, 1.0)}), AS_OF)
VISIT = Row(session({"a": 5}), AS_OF)
ROWS = [item(name, ["category:x"] if name == "d" else []) for name in "abcd"]
TOGETHER = neighbours_table({"a": {"c": 9.0}}, {"a": 9})
NAMES = ("base", "log_odds:category", "covisit")
BLEND = Blend(
    version="1",
    kind="fitted",
    names=NAMES,
    scales=(1.0,) * 3,
    weights=(1.0, 1.0, 5.0),
    gate=Gate(passed=True, reason=""),
)


def blended(held: ItemSnapshot, now: datetime, blend: Blend | None = BLEND, **known: Row) -> RankAnswer:
    """Answer the candidates a, b, c, d at some time with only the blend."""
    request = RankRequest(candidates=[Candidate(name) for name in "abcd"], explain=True)
    ranker = Ranker([BlendStage()], lambda: Model(held, blend), lambda: now, timedelta(seconds=60))
    context = ranker.open(request, perf_counter())
    for name, row in known.items():
        setattr(context, name, row)
    return asyncio.run(ranker.rank(context))


def ids(answer: RankAnswer) -> str:
    return "".join(item.item_id for item in answer.items)


@pytest.mark.parametrize(
    ("age", "codes", "tier"),
    [
        (ITEMS.freshness, [], Tier.LONG_TERM),
        (ITEMS.freshness + SECOND, ["items_stale"], Tier.LONG_TERM),
        (ITEMS.ttl, ["items_stale"], Tier.LONG_TERM),
        (ITEMS.ttl + SECOND, ["items_expired"], Tier.BASE),
        (timedelta(days=400), ["items_expired"], Tier.BASE),
        (-timedelta(hours=1), [], Tier.LONG_TERM),
    ],
)
def test_items_over_their_freshness_are_named_and_over_their_time_to_live_absent(
    age: timedelta, codes: list[str], tier: Tier
) -> None:
    answer = blended(snapshot(ROWS), AS_OF + age, user=TASTE)
    assert (answer.degraded, answer.tier) == (codes, tier)
    assert ids(answer) == ("abcd" if tier is Tier.BASE else "dabc")
    assert answer.ages == {"item_profile": max(age.total_seconds(), 0.0)}


def test_expired_items_are_told_before_a_blend_that_is_missing() -> None:
    old, missing = timedelta(days=91), blended(snapshot(ROWS), AS_OF, blend=None, user=TASTE)
    assert missing.degraded == ["blend_missing"]
    assert blended(snapshot(ROWS), AS_OF + old, blend=None, user=TASTE).degraded == ["items_expired"]


@pytest.mark.parametrize(
    ("age", "codes", "order"),
    [
        (NEIGHBOURS.freshness, [], "cabd"),
        (NEIGHBOURS.freshness + SECOND, ["neighbours_stale"], "cabd"),
        (NEIGHBOURS.ttl, ["neighbours_stale"], "cabd"),
        (NEIGHBOURS.ttl + SECOND, ["neighbours_expired"], "abcd"),
    ],
)
def test_neighbours_have_an_age_of_their_own(age: timedelta, codes: list[str], order: str) -> None:
    held = replace(snapshot(ROWS, TOGETHER), neighbours_as_of=AS_OF - age)
    answer = blended(held, AS_OF, session=VISIT)
    assert (ids(answer), answer.degraded) == (order, codes)
    assert answer.tier is Tier.SESSION_SEGMENT, "the other session signals still count"
    assert answer.ages == {"item_profile": 0.0, "item_neighbours": age.total_seconds()}


def test_expired_neighbours_are_as_good_as_none() -> None:
    never = blended(snapshot(ROWS), AS_OF, session=VISIT, user=TASTE)
    held = replace(snapshot(ROWS, TOGETHER), neighbours_as_of=AS_OF - timedelta(days=91))
    assert blended(held, AS_OF, session=VISIT, user=TASTE).items == never.items
    assert never.ages == {"item_profile": 0.0}, "a group without a build has no age"


def test_who_has_no_session_asks_nothing_of_neighbours() -> None:
    held = replace(snapshot(ROWS, TOGETHER), neighbours_as_of=AS_OF - timedelta(days=91))
    for visit in ({}, {"session": Row(session({}), AS_OF)}):
        answer = blended(held, AS_OF, user=TASTE, **visit)
        assert (answer.degraded, answer.ages) == ([], {"item_profile": 0.0})


BOUGHT = Rules((Exclude(name="already bought", bought=True), Exclude(name="blocked", items=("b",))))
BOTH = {"user_id": "u", "session_id": "s"}
RECENT = {"item_ids": ["c"], "item_weights": [5.0], "purchase_count": 1}


class Shop:
    """A store with a user's purchases, and the stages that read it."""

    def __init__(self) -> None:
        self.source = FakeSource()
        self.source.put("user_profile", "u", purchased_items=["a"])
        self.source.put("user_recent", "u", **RECENT)
        self.source.put("session_profile", "s", **RECENT)
        self.stale = False
        reader = FeatureReader(self.source, ranked_groups(), LIMITS, stream_stale=lambda: self.stale)
        self.stages: Sequence[Stage] = (
            ConsentStage(),
            FlagsStage(),
            FeaturesStage(reader, True),
            RulesStage(5.0),
        )

    def rank(
        self, rules: Rules = BOUGHT, flags: Flags | None = None, code: str | None = None, **fields: Any
    ) -> RankAnswer:
        """Rank; `code` settles the context before any stage runs."""
        model = Model(None, None, flags or Flags(), rules)
        ranker = Ranker(self.stages, lambda: model, lambda: NOON, timedelta(seconds=60))
        request = RankRequest(candidates=[Candidate(name) for name in "abcd"], **fields)
        context = ranker.open(request, perf_counter())
        if code is not None:
            context.settle(code)
        return asyncio.run(ranker.rank(context))


def gone(answer: RankAnswer) -> dict[str, str]:
    return {dropped.item_id: dropped.rule for dropped in answer.dropped}


def test_what_was_bought_is_known_while_the_store_answers() -> None:
    shop = Shop()
    everything = {"a": "already bought", "b": "blocked", "c": "already bought"}
    answer = shop.rank(user_id="u", session_id="s")
    assert (gone(answer), answer.degraded) == (everything, [])
    for fields in ({"user_id": "stranger", "session_id": "new"}, {"session_id": "new"}, {}):
        answer = shop.rank(**fields)
        assert (gone(answer), answer.degraded) == ({"b": "blocked"}, []), "known to be nothing"


@pytest.mark.parametrize("fields", [{"user_id": "u"}, {"session_id": "s"}, BOTH])
def test_a_store_that_is_out_leaves_the_rule_unkept_and_says_so(fields: dict[str, str]) -> None:
    shop = Shop()
    shop.source.failure = StoreError("gone")
    answer = shop.rank(**fields)
    assert gone(answer) == {"b": "blocked"}
    assert answer.degraded == ["store_failing", "bought_unknown"]
    assert shop.rank().degraded == [], "nobody is named"
    assert "bought_unknown" not in shop.rank(Rules(BOUGHT.rules[1:]), **fields).degraded, "no rule asks"


@pytest.mark.parametrize("fields", [{"user_id": "u"}, {"session_id": "s"}])
def test_who_is_not_looked_up_may_have_bought_anything(fields: dict[str, str]) -> None:
    shop = Shop()
    off = Flags(personalization=False)
    for answer, code in (
        (shop.rank(flags=off, **fields), "personalization_off"),
        (shop.rank(consent=False, **fields), "consent_denied"),
        (shop.rank(code="overload", **fields), "overload"),
    ):
        assert (gone(answer), answer.degraded) == ({"b": "blocked"}, [code, "bought_unknown"])


def test_a_denial_on_record_leaves_what_was_bought_unknown() -> None:
    shop = Shop()
    shop.source.put("user_consent", "u", permitted=False)
    answer = shop.rank(user_id="u")
    assert (gone(answer), answer.degraded) == ({"b": "blocked"}, ["consent_denied", "bought_unknown"])


def test_copies_tell_what_was_bought_too() -> None:
    shop = Shop()
    shop.rank(user_id="u")
    shop.source.failure = StoreError("gone")
    answer = shop.rank(user_id="u")
    assert gone(answer) == {"a": "already bought", "b": "blocked", "c": "already bought"}
    assert answer.degraded == ["store_failing", "user_cached", "recent_cached"]


def test_a_copy_of_the_profile_alone_is_half_of_it() -> None:
    shop = Shop()
    shop.rank(Rules(), user_id="u")
    shop.source.failure = StoreError("gone")
    answer = shop.rank(user_id="u")
    assert gone(answer) == {"a": "already bought", "b": "blocked"}
    assert answer.degraded == ["store_failing", "user_cached", "bought_unknown"]


def test_a_session_behind_a_stale_stream_may_have_bought_more() -> None:
    shop = Shop()
    shop.stale = True
    answer = shop.rank(session_id="s")
    assert answer.degraded == ["stream_stale", "bought_unknown"]


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [({"user_id": "u"}, {"b": "blocked", "c": "already bought"}), ({"session_id": "s"}, {"b": "blocked"})],
)
def test_what_flags_leave_out_is_not_known_to_be_bought(
    fields: dict[str, str], dropped: dict[str, str]
) -> None:
    answer = Shop().rank(flags=Flags(tiers=(Tier.SEGMENT, Tier.BASE)), **fields)
    assert (gone(answer), answer.degraded) == (dropped, ["bought_unknown"])


def test_what_is_too_old_to_count_is_no_secret() -> None:
    shop = Shop()
    shop.source.put("user_profile", "u", timedelta(days=91), purchased_items=["a"])
    shop.source.put("user_recent", "u", timedelta(days=2), **RECENT)
    answer = shop.rank(user_id="u")
    assert (gone(answer), answer.degraded) == ({"b": "blocked"}, ["user_expired", "recent_expired"])
