"""Evaluation: compares arms on the newest part of a history, with weights fitted on the older part."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec
import numpy as np

from feature_repo.arrays import Floats
from feature_repo.errors import SourceError
from feature_repo.settings import Settings
from orchestration.evaluation.blend_scores import blend_scores
from orchestration.evaluation.fit_blend import MIN_LISTS, fit, gated_blend, with_relevant
from orchestration.evaluation.gate import rankers_of, slices_of
from orchestration.evaluation.history import History, Progress, silent
from orchestration.evaluation.history_replay import Replay, Replayed
from orchestration.evaluation.ranking_tasks import PopularCandidates, find_tasks
from orchestration.evaluation.session_features import ReplaySessions
from quality.ranking.metrics import (
    METRICS,
    Interval,
    coverage_interval,
    mean_interval,
    paired_interval,
    positions_of,
)
from serving.scoring.blend import Blend, Gate
from serving.scoring.signal_groups import BASE, ITEM, LONG_TERM, SEGMENT, SESSION

SHOWN, POPULARITY, BLEND, BEST_RULE = "shown", "popularity", "blend", "best rule"
FITTED_ARMS: Mapping[str, tuple[str, ...]] = {
    "segment": (BASE, ITEM, SEGMENT),
    "long_term": (BASE, ITEM, LONG_TERM),
    "session": (BASE, ITEM, SESSION),
}
"""Arms fitted on some groups of signals only: the steps of the serving ladder below the whole blend."""


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one arm on the test lists.

    Attributes:
        metrics: every metric by name (`quality.ranking.metrics.METRICS`).
        versus: paired differences in the headline metric, by baseline: `shown`, `popularity`, `best rule`.
    """

    name: str
    ndcg_10: Interval
    mrr: Interval
    hit_rate_10: Interval
    coverage: Interval
    metrics: dict[str, Interval]
    versus: dict[str, Interval]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison and its results.

    Attributes:
        tasks: lists found; `without_relevant` of the test part had nothing relevant and were left out.
        metric: the headline, which differences are in.
        arms: `blend` is what would serve: the fitted blend where the gate let it pass, else a simple ranker.
        rules: every simple ranker.
        best_rule: the rule that is best on the test lists, which nobody knew beforehand.
        serves: what would serve, by name.
        slices: what would serve minus the best rule, in the headline, by slice of the test lists.
        gate: of the blend on the history part.
    """

    data: str
    format: str
    events: int
    items: int
    duplicates: int
    rejected: int
    tasks: int
    history_lists: int
    test_lists: int
    without_relevant: int
    test_from: datetime
    metric: str
    arms: tuple[Arm, ...]
    rules: tuple[Arm, ...]
    best_rule: str
    serves: str
    slices: dict[str, tuple[int, Interval]]
    gate: Gate
    blend_kind: str
    weights: dict[str, float]

    def arm(self, name: str) -> Arm:
        """The arm of a name."""
        return next(arm for arm in (*self.arms, *self.rules) if arm.name == name)

    @property
    def against_best_rule(self) -> Interval:
        """What would serve minus the best rule, in the headline."""
        return self.arm(BLEND).versus[BEST_RULE]

    @property
    def harm(self) -> bool:
        """Whether what would serve is below the best rule by more than the interval."""
        return self.against_best_rule.high < 0.0


@dataclass(frozen=True)
class Plan:
    """How to evaluate.

    Attributes:
        split: share of the lists, the oldest, that is history; or the time from which lists are the test.
        candidates: where the data has no impressions.
        max_lists: about so many are ranked.
        metric: the headline.
        label: the event type that makes an item relevant; `None` for every engagement.
    """

    split: float | datetime
    candidates: PopularCandidates
    max_lists: int | None = None
    metric: str = "ndcg"
    label: str | None = None


def evaluate(
    history: History, settings: Settings, plan: Plan, *, data: str, fmt: str, progress: Progress = silent
) -> Evaluation:
    """Replay a history and compare the arms on its newest part.

    Raises:
        SourceError: the data has nothing to rank, or nothing relevant in the test part.
    """
    tasks = find_tasks(history, plan.candidates, plan.max_lists, plan.label)
    cut = (
        bisect_left(tasks, plan.split, key=lambda task: task.time)
        if isinstance(plan.split, datetime)
        else int(len(tasks) * plan.split)
    )
    if not 0 < cut < len(tasks):
        msg = (
            f"{data}: {len(tasks)} rankings in it; an evaluation needs impressions, "
            "or engagements close in time"
        )
        raise SourceError(msg)
    lists = Replay(history, ReplaySessions(history, settings), settings).run(tasks, progress)
    past, test = with_relevant(lists.part(0, cut)), with_relevant(lists.part(cut, len(lists)))
    if not len(test):
        msg = (
            f"{data}: none of the {len(tasks) - cut} test rankings holds an item engaged with; where the "
            "data has no impressions, look further back for candidates, e.g. --candidates popular:100:30d"
        )
        raise SourceError(msg)
    blend = gated_blend(past, tasks[cut].time)
    scores = _scores(past, test, blend, progress)
    of_rules = {n: blend_scores(r.blend(test.names), test) for n, r in rankers_of(test.names).items()}
    values = {n: _values(s, test, plan.metric) for n, s in {**of_rules, **scores}.items()}
    best = max(of_rules, key=lambda n: float(values[n].mean()))
    baselines = {SHOWN: values[SHOWN], POPULARITY: values[POPULARITY], BEST_RULE: values[best]}
    arms = tuple(_arm(n, test, scores[n], values[n], baselines) for n in scores)
    rules = tuple(_arm(n, test, of_rules[n], values[n], baselines) for n in of_rules)
    slices = {
        name: (int(member.sum()), paired_interval(values[BLEND][member], values[best][member]))
        for name, member in slices_of(test).items()
        if member.any()
    }
    return Evaluation(
        data=data,
        format=fmt,
        events=len(history.events),
        items=len(history.catalogue),
        duplicates=history.duplicates,
        rejected=history.rejected,
        tasks=len(tasks),
        history_lists=len(past),
        test_lists=len(test),
        without_relevant=len(tasks) - cut - len(test),
        test_from=tasks[cut].time,
        metric=plan.metric,
        arms=arms,
        rules=rules,
        best_rule=best,
        serves=blend.ranker or blend.kind,
        slices=slices,
        gate=blend.gate,
        blend_kind=blend.kind,
        weights=dict(zip(blend.names, blend.weights, strict=True)),
    )


def _scores(past: Replayed, test: Replayed, blend: Blend, progress: Progress) -> dict[str, Floats]:
    """Score the test lists by arm; with too few lists to fit, every fitted arm keeps the order shown."""
    shown = -np.arange(len(test.relevant), dtype=np.float64)
    scores = {SHOWN: shown, POPULARITY: test.popularity}
    for done, (arm, groups) in enumerate(FITTED_ARMS.items()):
        enough = len(past) >= MIN_LISTS
        scores[arm] = blend_scores(fit(past, arm, groups), test) if enough else shown
        progress("fit", done + 1, len(FITTED_ARMS) + 1)
    scores[BLEND] = blend_scores(blend, test)
    progress("fit", len(FITTED_ARMS) + 1, len(FITTED_ARMS) + 1)
    return scores


def _values(scores: Floats, test: Replayed, metric: str) -> Floats:
    return METRICS[metric](positions_of(scores, test.offsets), test.relevant, test.offsets)


def _arm(name: str, test: Replayed, scores: Floats, values: Floats, baselines: Mapping[str, Floats]) -> Arm:
    positions = positions_of(scores, test.offsets)
    metrics = {n: mean_interval(of(positions, test.relevant, test.offsets)) for n, of in METRICS.items()}
    return Arm(
        name=name,
        ndcg_10=metrics["ndcg"],
        mrr=metrics["mrr"],
        hit_rate_10=metrics["hit"],
        coverage=coverage_interval(test.items, positions, test.offsets),
        metrics=metrics,
        versus={b: paired_interval(values, others) for b, others in baselines.items() if b != name},
    )
