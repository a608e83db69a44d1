"""Makes an answer again from its decision record: the same inputs through the same stages, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from feature_repo.errors import HeadraceError
from feature_repo.home import Home
from feature_repo.lake.lake import Build, Builds
from serving.control.experiments import HOLDOUT
from serving.control.flags import Flags, changed
from serving.control.reloading import Model
from serving.decisions.record import Decision, ranking_bytes
from serving.items.item_snapshot import ItemSnapshot, load_snapshot
from serving.pipeline.context import RankContext, Row
from serving.pipeline.features import forgo
from serving.pipeline.runner import Ranker
from serving.pipeline.stage import Stage
from serving.schemas.rank_request import RankRequest
from serving.schemas.rank_response import RankAnswer, Tier
from serving.scoring.blend import Blend

_STAMP = "%Y%m%dT%H%M%SZ"
_HOUR = timedelta(hours=1)
_UNANSWERABLE = {
    "holdout": "who is held out is drawn from ids, of which a record holds hashes only",
    "experiments": "who gets which arm is drawn from ids, of which a record holds hashes only; "
    "ask for the flags of an arm instead",
    "decision_share": "it decides which answers are recorded, not what is answered",
}
"""Flags no what-if can be asked of, and why."""
_STAGE_OF = {
    "tiers": "blend",
    "weights": "blend",
    "cap": "cap",
    "diversity": "diversity",
    "exploration": "exploration",
}
"""The stage that a flag speaks to."""
_AFTER_BLEND = frozenset({"diversity", "exploration"})
"""Stages that a missing blend left out, and nothing else."""


class ReplayError(HeadraceError):
    """The record, or what the answer was made with, is no longer there; says which."""


@dataclass(frozen=True)
class Replayed:
    """An answer made again.

    Attributes:
        context: what the stages left.
        same: whether items, tier and what was dropped equal the record to the byte.
    """

    answer: RankAnswer
    context: RankContext
    same: bool


@dataclass(frozen=True)
class _Pinned(Builds):
    """Builds as they were when an answer was made."""

    as_of: Mapping[str, datetime] | None = None

    def current(self, group: str, version: int = 1) -> Build | None:
        at = (self.as_of or {}).get(group)
        if at is None:
            return None
        path = self.path(group, at, version)
        return Build(path, at, at, rows=1) if path.exists() else None


def snapshot_as_of(features: Path, version: str) -> ItemSnapshot:
    """The item features of a snapshot's version.

    Raises:
        ReplayError: that build was cleaned away.
    """
    stamps = dict(part.split("@", 1) for part in version.split("+") if "@" in part)
    as_of = {
        f"item_{'profile' if name == 'items' else name}": datetime.strptime(at, _STAMP).replace(tzinfo=UTC)
        for name, at in stamps.items()
    }
    snapshot = load_snapshot(_Pinned(features, as_of))
    if snapshot is None or snapshot.version != version:
        msg = f"the item features {version} are no longer in {features}; a replay needs the build of its time"
        raise ReplayError(msg)
    return snapshot


def blend_of(models: Path, version: str) -> Blend:
    """A blend by its version, or by the path of its file.

    Raises:
        ReplayError: there is no such file, or it is no blend.
    """
    path = Path(version) if version.endswith(".json") else models / f"blend-{version}.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Blend)
    except (OSError, msgspec.MsgspecError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        msg = f"{path}: no readable blend ({why}); there are: {_blends(models)}"
        raise ReplayError(msg) from error


def _blends(models: Path) -> str:
    return ", ".join(sorted(p.stem.removeprefix("blend-") for p in models.glob("blend-*.json"))) or "none"


def model_of(decision: Decision, home: Home) -> Model:
    """What an answer was made with.

    Raises:
        ReplayError: some of it is gone.
    """
    versions = decision.versions
    return Model(
        snapshot=None if versions.items is None else snapshot_as_of(home.features, versions.items),
        blend=None if versions.blend is None else blend_of(home.models, versions.blend),
        flags=decision.flags,
        rules=decision.rules,
    )


def with_changes(
    decision: Decision, model: Model, home: Home, weights: str | None, flags: Mapping[str, Any]
) -> Model:
    """The model of a what-if: another blend (its version or file), other flags.

    Args:
        decision: the record that is asked.
        model: what its answer was made with.

    Raises:
        ReplayError: there is no such blend, or the record cannot tell what it would have made of it.
        FlagsError: a flag cannot be.
    """
    asked = {path.partition(".")[0] for path in flags} | (set() if weights is None else {"weights"})
    for name, why in _UNANSWERABLE.items():
        if name in asked:
            msg = f"{name}: cannot be asked of a record: {why}"
            raise ReplayError(msg)
    replaced = changed(model.flags, flags)
    _check_recorded(decision, replaced, asked)
    blend = model.blend if weights is None else blend_of(home.models, weights)
    return msgspec.structs.replace(model, blend=blend, flags=replaced)


def _check_recorded(decision: Decision, flags: Flags, asked: Set[str]) -> None:
    """That what other flags would have used is in the record: else the replay would silently go without."""
    if not flags.personalization:
        return  # the base order needs none of it
    codes = ", ".join(decision.degraded) or f"tier {decision.tier}"
    if not decision.flags.personalization and "features" not in decision.completed:
        msg = f"personalization: was off for that answer ({codes}), so no features were read or recorded"
        raise ReplayError(msg)
    if more := sorted(set(flags.tiers) - {*decision.flags.tiers, Tier.BASE}):
        msg = f"tiers: {more[0]} was not permitted then, and what it would have used was not recorded"
        raise ReplayError(msg)
    for name in sorted(asked & _STAGE_OF.keys()):
        for stage in dict.fromkeys(("blend", _STAGE_OF[name])):
            if not _runs_again(stage, decision):
                msg = f"{name}: the stage {stage} did not complete for that answer ({codes})"
                raise ReplayError(msg)


def _runs_again(stage: str, decision: Decision) -> bool:
    """Whether a stage is run again: where it completed, or where it was left out for want of a blend alone.

    Without another blend the latter are left out again.
    """
    return stage in decision.completed or (stage in _AFTER_BLEND and "blend_missing" in decision.degraded)


def replay(decision: Decision, stages: Sequence[Stage], model: Model) -> Replayed:
    """Run the stages that completed then over the recorded features.

    Args:
        stages: those after the features were read; the others decided what the record holds.
        model: what the answer was made with, or `with_changes` of it.
    """
    wanted = [stage for stage in stages if _runs_again(stage.name, decision)]
    ranker = Ranker(wanted, lambda: model, lambda: decision.time, _HOUR)
    context = ranker.open(request_of(decision), perf_counter())
    if decision.flags.personalization and not model.flags.personalization:
        context.settle("personalization_off")  # as the kill switch does: nothing is read, nobody is assigned
    else:
        fill(context, decision)
    answer = asyncio.run(ranker.rank(context))
    same = ranking_bytes(answer.items, answer.tier, answer.dropped) == decision.ranking
    return Replayed(answer, context, same)


def request_of(decision: Decision) -> RankRequest:
    """The request as recorded; ids of people are hashes."""
    return RankRequest(
        candidates=decision.candidates,
        user_id=decision.user,
        session_id=decision.session,
        query=decision.query,
        limit=decision.limit,
        explain=decision.explain,
        request_id=decision.request_id,
    )


def fill(context: RankContext, decision: Decision) -> None:
    """Put the recorded features into a context, as far as its flags permit the tiers they are for."""
    context.rows = {
        name: Row(used.values, used.event_time, used.cached) for name, used in decision.features.items()
    }
    context.arms = dict(decision.arms)
    # Held out by its arm's flag, not by the holdout: other flags may lift that.
    by_arm = not context.flags.personalization
    context.held_out = decision.held_out and (HOLDOUT in decision.arms or by_arm)
    forgo(context)
