"""The blend: a fitted linear sum of standardized signals, and its file.

``<home.models>/blend-<version>.json`` holds one blend with the figures of its gate. ``CURRENT`` names the one
that serves. Both are replaced atomically, so a running server never sees a partial file.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from feature_repo.arrays import Bools, Floats, Ints
from feature_repo.errors import BuildError
from feature_repo.files import write_file
from serving.scoring.contributions import contributed
from serving.scoring.signal_groups import BASE, GROUPS
from serving.scoring.signal_matrix import SignalMatrix, signals_of
from serving.scoring.signals import group_of

CURRENT = "CURRENT"
TIE_BREAK = 1e-6
MOST_WEIGHT = 1e9
"""Maximum weight of a signal. Signals are clipped, so neither scores nor their differences overflow."""

Kind: TypeAlias = Literal["base", "popularity", "rule", "fitted"]
"""What serves. Earlier versions used ``popularity`` for a rule with a single popularity signal."""
Factors: TypeAlias = tuple[tuple[str, float], ...]


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """The do-no-harm decision: NDCG@10 on the newest, held-out part of the lists, paired by list.

    Attributes:
        baseline: the ranker that the fitted blend must beat: the best one on the older part.
        difference, low, high: fitted minus baseline: mean and 95 % confidence interval.
        rankers: NDCG@10 of every simple ranker on the held-out part.
        slices: fitted minus baseline by guarded slice: number of lists, mean and 95 % confidence interval.
        reason: the decision in words.
    """

    passed: bool
    reason: str
    baseline: str = ""
    lists_fitted: int = 0
    lists_held_out: int = 0
    ndcg_base: float | None = None
    ndcg_fitted: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    rankers: dict[str, float] = {}
    slices: dict[str, tuple[int, float, float, float]] = {}


class Blend(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Weights by signal name.

    A signal is centred on the mean of the list, divided by its scale and clipped to ±6. An unknown signal
    (nan) counts as zero, so an unknown item keeps the contribution of its base score.

    Attributes:
        kind: what serves: the fitted blend, or the simple order that the gate kept.
        ranker: name of that simple order (`serving.scoring.rankers`).
        fitted_at: when, ISO 8601.
    """

    version: str
    kind: Kind
    names: tuple[str, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    gate: Gate
    fitted_at: str = ""
    ranker: str = ""

    @property
    def wanted(self) -> frozenset[str]:
        """Names of the signals to compute for this blend."""
        return _wanted(self.names)

    def contributions(self, matrix: SignalMatrix, factors: Factors = ()) -> tuple[Floats, Floats]:
        """Compute the contribution of each signal to each score ``(n, k)``, and the scores ``(n,)``.

        A score is the sum of its contributions. A signal that is not in the matrix contributes nothing.

        Args:
            factors: multipliers of the weights by signal group.
        """
        place, aligned = _aligned(self, matrix.names, factors)
        parts, sums = contributed(matrix.values, *aligned, True)
        whole = np.zeros((len(parts), len(self.names)))
        whole[:, place] = parts
        return whole, sums

    def scores(self, matrix: SignalMatrix, factors: Factors = ()) -> Floats:
        """Compute the scores of the candidates ``(n,)`` without their contributions."""
        return contributed(matrix.values, *_aligned(self, matrix.names, factors)[1], False)[1]


def centred_signals(names: tuple[str, ...]) -> Bools:
    """Mark the signals that are centred on the mean of their list: all but the base score."""
    return np.array([name != BASE for name in names], bool)


def grouped(names: tuple[str, ...], contributions: Floats) -> dict[str, Floats]:
    """Sum contributions ``(n, k)`` by group (base, item, long_term, segment, session), each ``(n,)``."""
    member = _membership(names)
    sums = contributions @ member
    return {group: sums[:, i] for i, group in enumerate(GROUPS)}


@lru_cache(maxsize=64)
def _wanted(names: tuple[str, ...]) -> frozenset[str]:
    return signals_of(names)


@lru_cache(maxsize=64)
def _membership(names: tuple[str, ...]) -> Floats:
    return np.array([[float(group_of(name) == group) for group in GROUPS] for name in names])


@lru_cache(maxsize=64)
def _aligned(
    blend: Blend, names: tuple[str, ...], factors: Factors
) -> tuple[Ints, tuple[Ints, Floats, Floats, Bools]]:
    """Return the places of the signals that blend and matrix share, and the arguments of `contributed`.

    They keep the blend's order, so that signals added later do not change the last bits of a score.
    """
    columns, by_group = {name: i for i, name in enumerate(names)}, dict(factors)
    place = np.array([i for i, name in enumerate(blend.names) if name in columns], np.intp)
    own = tuple(blend.names[i] for i in place)
    weights = np.array(blend.weights, np.float64)[place]
    weights *= np.array([by_group.get(group_of(name), 1.0) for name in own], np.float64)
    scales = np.array(blend.scales, np.float64)[place]
    return place, (np.array([columns[name] for name in own], np.intp), scales, weights, centred_signals(own))


def current_path(models: Path) -> Path:
    """Return the file that changes when another blend serves."""
    return models / CURRENT


def save_blend(models: Path, blend: Blend) -> Path:
    """Write a blend and make it current.

    Raises:
        BuildError: the folder cannot be written; the previous blend stays current.
    """
    path = models / f"blend-{blend.version}.json"
    try:
        models.mkdir(parents=True, exist_ok=True)
        write_file(path, msgspec.json.format(msgspec.json.encode(blend), indent=2))
        write_file(current_path(models), path.name.encode())
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror}); the previous blend keeps serving"
        raise BuildError(msg) from error
    return path


def load_blend(models: Path) -> Blend | None:
    """Load the blend that serves, or return `None` before the first fit.

    Raises:
        BuildError: ``CURRENT`` names a file that is missing or malformed.
    """
    try:
        name = current_path(models).read_bytes().decode(errors="replace").strip()
    except FileNotFoundError:
        return None
    return read_blend(models / name)


def read_blend(path: Path) -> Blend:
    """Read a blend from its file.

    Raises:
        BuildError: the file is missing or malformed.
    """
    try:
        blend = msgspec.json.decode(path.read_bytes(), type=Blend)
    except (OSError, msgspec.MsgspecError) as error:
        msg = f"{path}: not a readable blend ({error}); fit again, or name another file in {CURRENT}"
        raise BuildError(msg) from error
    if not len(blend.names) == len(blend.scales) == len(blend.weights) or 0.0 in blend.scales:
        msg = f"{path}: names, non-zero scales and weights must pair up; fit again"
        raise BuildError(msg)
    strange = next((n for n, w in zip(blend.names, blend.weights, strict=True) if abs(w) > MOST_WEIGHT), None)
    if strange is not None:
        msg = f"{path}: weight of {strange}: over ±{MOST_WEIGHT:g}, scores could overflow; fit again"
        raise BuildError(msg)
    return blend
