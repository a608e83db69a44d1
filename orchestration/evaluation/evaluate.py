"""Evaluation: arms compared on the newest part of a history, weights fitted on the part before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec
import numpy as np

from feature_repo.arrays import Floats, Ints
from feature_repo.errors import SourceError
from feature_repo.settings import Settings
from orchestration.evaluation.fit_blend import MIN_LISTS, blend_scores, fit, gated_blend, with_relevant
from orchestration.evaluation.history import History, Progress, silent
from orchestration.evaluation.history_replay import Replay, Replayed
from orchestration.evaluation.ranking_tasks import PopularCandidates, find_tasks
from orchestration.evaluation.session_features import ReplaySessions
from quality.ranking.metrics import (
    Interval,
    coverage_interval,
    hits,
    mean_interval,
    ndcg,
    paired_interval,
    positions_of,
    reciprocal_rank,
)
from serving.scoring.blend import Blend, Gate
from serving.scoring.signal_groups import BASE, ITEM, LONG_TERM, SEGMENT, SESSION

SHOWN, POPULARITY, BLEND = "shown", "popularity", "blend"
FITTED_ARMS: Mapping[str, tuple[str, ...]] = {
    "segment": (BASE, ITEM, SEGMENT),
    "long_term": (BASE, ITEM, LONG_TERM),
    "session": (BASE, ITEM, SESSION),
}
"""Arms fitted on some groups of signals only: the steps of the serving ladder below the whole blend."""
BASELINES = (SHOWN, POPULARITY)


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one arm on the test lists; `versus` holds paired differences in NDCG@10 by baseline."""

    name: str
    ndcg_10: Interval
    mrr: Interval
    hit_rate_10: Interval
    coverage: Interval
    versus: dict[str, Interval]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared and how it came out.

    Attributes:
        tasks: lists found; `without_relevant` of the test part had nothing relevant and were left out.
        gate: of the blend on the history part; where it did not pass, the arm `blend` is what serves instead.
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
    arms: tuple[Arm, ...]
    gate: Gate
    blend_kind: str
    weights: dict[str, float]

    def arm(self, name: str) -> Arm:
        """The arm of a name."""
        return next(arm for arm in self.arms if arm.name == name)


@dataclass(frozen=True)
class Plan:
    """How to evaluate: the share of history, and candidates where the data has no impressions."""

    split: float
    candidates: PopularCandidates
    max_lists: int | None = None


def evaluate(
    history: History, settings: Settings, plan: Plan, *, data: str, fmt: str, progress: Progress = silent
) -> Evaluation:
    """Replay a history and compare the arms on its newest part.

    Raises:
        SourceError: the data holds nothing to rank, or nothing relevant in the test part.
    """
    tasks = find_tasks(history, plan.candidates, plan.max_lists)
    cut = int(len(tasks) * plan.split)
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
        arms=_arms(test, _scores(past, test, blend, progress)),
        gate=blend.gate,
        blend_kind=blend.kind,
        weights=dict(zip(blend.names, blend.weights, strict=True)),
    )


def _scores(past: Replayed, test: Replayed, blend: Blend, progress: Progress) -> dict[str, Floats]:
    """Scores of the test places by arm; with too few lists to fit, every fitted arm is the order shown."""
    shown = -np.arange(len(test.relevant), dtype=np.float64)
    scores = {SHOWN: shown, POPULARITY: test.popularity}
    for done, (arm, groups) in enumerate(FITTED_ARMS.items()):
        enough = len(past) >= MIN_LISTS
        scores[arm] = blend_scores(fit(past, arm, groups), test) if enough else shown
        progress("fit", done + 1, len(FITTED_ARMS) + 1)
    scores[BLEND] = blend_scores(blend, test)
    progress("fit", len(FITTED_ARMS) + 1, len(FITTED_ARMS) + 1)
    return scores


def _arms(test: Replayed, scores: Mapping[str, Floats]) -> tuple[Arm, ...]:
    positions = {name: positions_of(values, test.offsets) for name, values in scores.items()}
    gains = {name: ndcg(at, test.relevant, test.offsets) for name, at in positions.items()}
    return tuple(_arm(name, test, positions[name], gains) for name in scores)


def _arm(name: str, test: Replayed, positions: Ints, gains: Mapping[str, Floats]) -> Arm:
    return Arm(
        name=name,
        ndcg_10=mean_interval(gains[name]),
        mrr=mean_interval(reciprocal_rank(positions, test.relevant, test.offsets)),
        hit_rate_10=mean_interval(hits(positions, test.relevant, test.offsets)),
        coverage=coverage_interval(test.items, positions, test.offsets),
        versus={b: paired_interval(gains[name], gains[b]) for b in BASELINES if b != name},
    )
