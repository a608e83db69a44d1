"""Makes an answer again from its decision record: the same inputs through the same stages, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from feature_repo.errors import HeadraceError
from feature_repo.home import Home
from feature_repo.lake import Build, Builds
from serving.answer import RankAnswer
from serving.blend import Blend
from serving.context import RankContext, Row
from serving.decision import Decision, ranking_bytes
from serving.flags import changed
from serving.live import Model
from serving.rank import Ranker
from serving.request import RankRequest
from serving.snapshot import ItemSnapshot, load_snapshot
from serving.stage import Stage

_STAMP = "%Y%m%dT%H%M%SZ"
_HOUR = timedelta(hours=1)


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
    """Builds as they stood when an answer was made."""

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


def with_changes(model: Model, home: Home, weights: str | None, flags: Mapping[str, Any]) -> Model:
    """The model of a what-if: another blend (its version or file), other flags.

    Raises:
        ReplayError: there is no such blend.
        FlagsError: a flag cannot be.
    """
    blend = model.blend if weights is None else blend_of(home.models, weights)
    return msgspec.structs.replace(model, blend=blend, flags=changed(model.flags, flags))


def replay(decision: Decision, stages: Sequence[Stage], model: Model) -> Replayed:
    """Run the stages that completed then over the recorded features.

    Args:
        stages: those after the features were read; the others decided what the record holds.
    """
    wanted = [stage for stage in stages if stage.name in decision.completed]
    ranker = Ranker(wanted, lambda: model, lambda: decision.time, _HOUR)
    context = ranker.open(request_of(decision), perf_counter())
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
    """Put the recorded features into a context."""
    rows = {name: Row(used.values, used.event_time, used.cached) for name, used in decision.features.items()}
    context.user, context.segment, context.session, context.recent = map(
        rows.get, ("user", "segment", "session", "recent")
    )
    context.arms, context.held_out = dict(decision.arms), decision.held_out
