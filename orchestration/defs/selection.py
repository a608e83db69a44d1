"""What a chain run includes: everything, or only what a change of one day requires."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dagster as dg

from feature_repo.group import FeatureGroup
from orchestration.defs.keys import BLEND, EVENTS, ITEMS, REGISTRY, USERS, features_key, view_key
from orchestration.defs.models import GATE
from orchestration.defs.quality import BEHAVIOUR, DRIFT, READ_BACK
from orchestration.defs.results import ADVICE, BLOCKING
from orchestration.runtime import Runtime


@dataclass(frozen=True)
class Selection:
    """Assets and checks of a run, for `dg.RunRequest`."""

    assets: list[dg.AssetKey]
    checks: list[dg.AssetCheckKey]


def chain_selection(batch: Sequence[FeatureGroup], *, blend: bool, drift: bool) -> Selection:
    """Select the chain, with or without the blend and the drift and behaviour checks."""
    features, views = [features_key(g) for g in batch], [view_key(g) for g in batch]
    checks = [dg.AssetCheckKey(key, name) for key in (EVENTS, *features) for name in (BLOCKING, ADVICE)]
    checks += [dg.AssetCheckKey(key, READ_BACK) for key in views]
    if drift:
        checks += [dg.AssetCheckKey(EVENTS, BEHAVIOUR), *(dg.AssetCheckKey(key, DRIFT) for key in features)]
    assets = [EVENTS, ITEMS, USERS, *features, REGISTRY, *views]
    if blend:
        assets, checks = [*assets, BLEND], [*checks, dg.AssetCheckKey(BLEND, GATE)]
    return Selection(assets, checks)


def fit_is_due(runtime: Runtime, asked: float = 0.0, now: Callable[[], float] = time.time) -> bool:
    """Return whether to fit the blend: the last fit is old enough and the lake has changed since.

    Args:
        asked: when a fit was last requested (s since 1970); a failed fit is not requested again at once.
        now: the clock that stamps files.
    """
    current = runtime.home.models / "CURRENT"
    fitted = current.stat().st_mtime if current.exists() else 0.0
    if now() - max(fitted, asked) < runtime.settings.blend_every_s:
        return False
    return runtime.lake_changed() > fitted
