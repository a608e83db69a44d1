"""The do-no-harm gate, against a naive reading of its rule and on made-up histories."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from orchestration.evaluation import fit_blend
from orchestration.evaluation.blend_scores import ndcg_of
from orchestration.evaluation.fit_blend import capped, fit, gated_blend, newest_share
from orchestration.evaluation.gate import MIN_SLICE, TOLERANCE, best_ranker, judge, rankers_of, slices_of
from orchestration.evaluation.history_replay import Askers, Replayed
from serving.scoring.blend import Blend, Gate
from serving.scoring.signal_matrix import signal_names

NOW = datetime(2024, 6, 1, tzinfo=UTC)
NAMES = signal_names(("category",), ("price",))
SLOTS = 8


def made_up(count: int, seed: int, names: tuple[str, ...] = NAMES, **strength: float) -> Replayed:
    """Lists of random signals, of which one item each is clicked: by the sum of some signals and chance."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(count, SLOTS, len(names))).astype(np.float32)
    at = {name: i for i, name in enumerate(names)}
    values[:, :, at["base"]] = np.linspace(1, 0, SLOTS)
    values[:, :, at["position"]] = -np.log2(np.arange(SLOTS) + 2.0)
    values[:, :, at["touched"]] = draw.random((count, SLOTS)) < 0.05
    wish = draw.gumbel(size=(count, SLOTS))
    for name, weight in strength.items():
        wish += weight * values[:, :, at[name.replace("__", ":")]]
    relevant = wish == wish.max(axis=1, keepdims=True)
    return Replayed(
        times=tuple(NOW + timedelta(seconds=n) for n in range(count)),
        names=names,
        values=values.reshape(-1, len(names)),
        offsets=np.arange(count + 1) * SLOTS,
        relevant=relevant.ravel(),
        popularity=np.zeros(count * SLOTS),
        items=np.tile(np.arange(SLOTS), count),
        askers=strangers(count),
    )


def strangers(count: int) -> Askers:
    """Each list has a session of its own, and nobody is known."""
    return Askers(np.arange(count), np.full(count, -1), np.zeros(count, np.intp), ("all",) * count)


def joined(old: Replayed, new: Replayed) -> Replayed:
    """One history after another."""
    return Replayed(
        times=old.times + new.times,
        names=old.names,
        values=np.concatenate([old.values, new.values]),
        offsets=np.concatenate([old.offsets, old.offsets[-1] + new.offsets[1:]]),
        relevant=np.concatenate([old.relevant, new.relevant]),
        popularity=np.concatenate([old.popularity, new.popularity]),
        items=np.concatenate([old.items, new.items]),
        askers=strangers(len(old) + len(new)),
    )


FEW = ("base", "position", "log_ctr", "log_clicks", "touched", "touch_rank", "covisit_last", "next_last")
HISTORIES, LISTS = 200, 2000


def served(old: dict[str, float], new: dict[str, float]) -> float:
    """How often fitted weights serve, over histories whose newest fifth has causes of its own."""
    older, found = int(LISTS * 0.8), []
    for seed in range(HISTORIES):
        past, newest = made_up(older, seed, FEW, **old), made_up(LISTS - older, 90_000 + seed, FEW, **new)
        found.append(gated_blend(joined(past, newest), NOW).kind)
    return found.count("fitted") / HISTORIES


def effect(old: dict[str, float], new: dict[str, float]) -> float:
    """NDCG of weights fitted on many lists beyond that of the best rule, on many lists of the new causes."""
    past, future = made_up(5_000, 1, FEW, **old), made_up(50_000, 2, FEW, **new)
    rule = rankers_of(FEW)[best_ranker(past)]
    return float((ndcg_of(fit(past, "v"), future) - ndcg_of(rule.blend(FEW), future)).mean())


def weighing(**weights: float) -> Blend:
    names = tuple(name.replace("__", ":") for name in weights)
    gate = Gate(passed=False, reason="")
    ones = (1.0,) * len(names)
    return Blend(
        version="v", kind="fitted", names=names, scales=ones, weights=tuple(weights.values()), gate=gate
    )


def bounds(values: np.ndarray) -> tuple[float, float]:
    """A plain 95 % interval; 1.97 suits the numbers of lists here."""
    half = 1.97 * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("strength", [{"touch_rank": 1.0}, {"log_ctr": 0.6, "touch_rank": 0.6}, {}])
def test_the_decision_is_the_naive_one(seed: int, strength: dict[str, float]) -> None:
    older, newest = made_up(400, seed, **strength), made_up(400, 100 + seed, **strength)
    blend, chosen = weighing(touch_rank=1.0, log_ctr=1.0), best_ranker(older)
    gate = judge(ndcg_of(blend, newest), chosen, newest, 200, 400)
    scores = {name: ndcg_of(r.blend(NAMES), newest) for name, r in rankers_of(NAMES).items()}
    rival = max((chosen, "base"), key=lambda name: scores[name].mean())
    difference = ndcg_of(blend, newest) - scores[rival]
    harmed = [
        name
        for name, member in slices_of(newest).items()
        if member.sum() >= MIN_SLICE
        and bounds(difference[member])[1] < 0
        and difference[member].mean() < -TOLERANCE
    ]
    best = max(values.mean() for values in scores.values())
    newest_low, newest_high = bounds(difference[200:])
    lately = difference[200:].mean() > (newest_high - newest_low) / 4
    passed = bounds(difference)[0] > 0 and lately and not harmed and ndcg_of(blend, newest).mean() >= best
    assert gate.passed == passed, gate.reason
    assert gate.difference == pytest.approx(difference.mean())
    if not passed:
        kept = chosen if bounds(scores[chosen] - scores["base"])[0] > 0 else "base"
        assert gate.baseline == kept
        assert f"{kept} serves" in gate.reason


@pytest.mark.parametrize(
    ("strength", "rule"),
    [
        ({"touch_rank": 3.0}, "touched_first"),
        ({"covisit_last": 3.0}, "covisit_last"),
        ({"popularity__short": 3.0}, "popular_short"),
        ({"log_age": -3.0}, "newest"),
        ({"numeric__price": -3.0}, "cheapest"),
    ],
)
def test_where_one_rule_is_right_that_rule_serves(strength: dict[str, float], rule: str) -> None:
    blend = gated_blend(made_up(600, 3, **strength), NOW)
    assert (blend.ranker or blend.kind) == rule, blend.gate.reason
    assert blend.gate.rankers[rule] == max(blend.gate.rankers.values())


@pytest.mark.timeout(300)
def test_a_fit_that_is_truly_better_serves_in_four_of_five_histories() -> None:
    causes = {"log_ctr": 1.0, "touch_rank": 0.448}
    assert effect(causes, causes) == pytest.approx(0.02, abs=0.001)
    assert served(causes, causes) >= 0.8


@pytest.mark.timeout(300)
def test_a_fit_that_is_truly_worse_serves_in_two_of_a_hundred_histories_at_most() -> None:
    old, new = {"log_ctr": 1.0, "touch_rank": 0.4}, {"log_ctr": 1.0, "touch_rank": 0.057}
    assert effect(old, new) == pytest.approx(-0.01, abs=0.001)
    assert served(old, new) <= 0.02


def test_a_robot_moves_no_weight() -> None:
    people, robot = made_up(1200, 8, log_ctr=1.5), made_up(5000, 9, log_ctr=-3.0)
    both = joined(people, robot)
    robots = np.arange(6200) >= 1200
    askers = Askers(
        np.where(robots, 1200, np.arange(6200)),
        np.where(robots, 7, -1),
        np.zeros(6200, np.intp),
        ("all",) * 6200,
    )
    found = fit(capped(replace(both, askers=askers)), "v")
    alone, untamed = fit(people, "v"), fit(both, "v")
    weight = dict(zip(found.names, found.weights, strict=True))["log_ctr"]
    assert weight == pytest.approx(dict(zip(alone.names, alone.weights, strict=True))["log_ctr"], rel=0.1)
    assert dict(zip(untamed.names, untamed.weights, strict=True))["log_ctr"] < 0, "without the cap it would"


@pytest.mark.parametrize("most", [1, 3, 50])
def test_lists_of_a_unit_are_capped_and_spread(most: int) -> None:
    units = np.random.default_rng(most).integers(-1, 6, 200)
    units[:90] = 2
    marked = fit_blend._spread(units, most)
    assert marked[units < 0].all(), "whoever is not known is nobody's unit"
    for unit in range(6):
        mine = np.flatnonzero(units == unit)
        kept = np.flatnonzero(marked[mine])
        assert len(kept) == min(most, len(mine))
        assert np.ptp(np.diff(kept), axis=0) <= 1 if len(kept) > 1 else kept[0] == 0


def test_where_two_causes_add_up_the_fitted_blend_serves() -> None:
    blend = gated_blend(made_up(1500, 4, touch_rank=1.5, log_ctr=1.5, covisit_last=1.5), NOW)
    assert blend.kind == "fitted", blend.gate.reason
    assert blend.gate.low is not None
    assert blend.gate.low > 0


def test_a_blend_that_is_better_on_the_whole_but_worse_on_a_slice_is_refused() -> None:
    lists = made_up(1200, 5, log_ctr=3.0)
    at = NAMES.index("log_ctr")
    places = lists.values.reshape(1200, SLOTS, -1)
    touched = (places[:, :, NAMES.index("touched")] > 0).any(axis=1)
    # For the rule, log_ctr tells nothing in untouched lists; the blend's own signal tells everything there.
    relevant = lists.relevant.reshape(1200, SLOTS)
    places[:, :, NAMES.index("covisit")] = np.where(touched[:, None], 0.0, 20.0 * relevant)
    places[~touched, :, at] = 0.0
    gate = judge(ndcg_of(weighing(covisit=1.0), lists), "ctr", lists, len(lists), 1)
    assert not gate.passed
    assert "but worse on lists with a touched item: ctr serves" in gate.reason
    assert gate.difference is not None
    assert gate.difference > 0
    assert gate.slices["lists with a touched item"][1] < 0


def test_a_blend_below_another_rule_is_refused_although_it_beats_the_one_chosen() -> None:
    lists = made_up(800, 11, touch_rank=3.0, log_ctr=0.5)
    gate = judge(ndcg_of(weighing(touch_rank=1.0, log_ctr=2.0), lists), "ctr", lists, len(lists), 1)
    assert gate.low is not None
    assert gate.low > 0
    assert not gate.passed
    assert "but touched_first is better still there" in gate.reason


def test_weights_are_fitted_on_the_newest_lists_where_old_ones_mislead() -> None:
    old, new = made_up(900, 6, log_ctr=-2.0, covisit=1.0), made_up(600, 7, log_ctr=2.0, covisit=1.0)
    assert newest_share(joined(old, new), "v") < 1.0
    kept = [newest_share(made_up(800, seed, log_ctr=2.0), "v") for seed in range(20)]
    assert kept.count(1.0) >= 18, "where nothing changes, all of history teaches"


def test_a_hundred_histories_without_any_cause_change_nothing() -> None:
    served = [gated_blend(made_up(400, seed), NOW) for seed in range(100)]
    fitted = sum(blend.kind == "fitted" for blend in served)
    assert fitted <= 2
