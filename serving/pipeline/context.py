"""The state of one request while it passes through the stages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from operator import attrgetter
from time import perf_counter
from typing import Any

import numpy as np
from msgspec import Struct

from feature_repo.arrays import Floats, Ints
from serving.control.flags import Flags
from serving.control.reloading import Model
from serving.schemas.rank_request import RankRequest
from serving.schemas.rank_response import Dropped, Tier
from serving.scoring.base_order import BaseOrder, base_order
from serving.scoring.ordering import rescored


class Row(Struct, frozen=True):
    """One row of a feature group.

    Attributes:
        values: feature name → value.
        event_time: event time of the row, for its age.
        cached: whether it was cached by an earlier request rather than read from the store.
    """

    values: Mapping[str, Any]
    event_time: datetime
    cached: bool = False


class _Named:
    """Descriptor: the entry of `rows` with the attribute's name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, owner: HasRows, cls: type | None = None) -> Row | None:
        return owner.rows.get(self._name)

    def __set__(self, owner: HasRows, row: Row | None) -> None:
        if row is None:
            owner.rows.pop(self._name, None)
        else:
            owner.rows[self._name] = row


class HasRows:
    """Base of objects with feature rows by `FeatureGroup.ranked_as`; the common ones are attributes too."""

    __slots__ = ()
    rows: dict[str, Row]
    user = _Named()
    segment = _Named()
    session = _Named()
    recent = _Named()


class Contributions(Struct, frozen=True, eq=False):
    """The contribution of each signal to each candidate's score.

    Attributes:
        names: the k signals.
        values: float64[n, k], rows in base order; a row sums to the candidate's blended score.
    """

    names: tuple[str, ...]
    values: Floats


_RANKING = ("tier", "_order", "_scores", "contributions", "adjustments", "propensities", "dropped")
_ranking = attrgetter(*_RANKING)
_NONE = np.zeros(0, np.intp)


class RankContext(HasRows, Struct, eq=False):
    """State of one request. Each stage reads the results of earlier ones and writes its own.

    The base order is computed at first use, so that the request to the online store goes out first.

    Attributes:
        request_id: given or generated.
        now: time of the request by the event-time clock.
        model: item features, blend, flags and rules, captured once so that no answer mixes versions.
        deadline: `perf_counter` time at which personalization ends.
        item_ids: item ids of the candidates, as given.
        flags: the model's flags, as changed by the experiment arms of this unit.
        consented: whether consent was checked and permits using and recording personal data.
        held_out: whether to answer the base order although everything is computed.
        gathered: item numbers of the candidates in base order, if already looked up.
        rows: feature rows by `FeatureGroup.ranked_as`.
        contributions: set only if an explanation is wanted.
        numbers: snapshot item number of each candidate, -1 if unknown; empty before the blend.
        settled: set by a stage that decided on the base order; personal stages are then skipped.
        propensities: float64[n] by candidate, if slots explore.
        drawn: candidates that exploration drew for its slots.
        placed: name of the rule that moved a candidate, by candidate.
        completed: names of the stages that finished.
    """

    request: RankRequest
    request_id: str
    model: Model
    now: datetime
    arrived: float
    deadline: float
    item_ids: list[str]
    flags: Flags
    tier: Tier = Tier.BASE
    settled: bool = False
    consented: bool = False
    held_out: bool = False
    _base: BaseOrder | None = None
    _order: Ints | None = None
    _scores: Floats | None = None
    gathered: Ints | None = None
    numbers: Ints = _NONE
    rows: dict[str, Row] = {}
    contributions: Contributions | None = None
    adjustments: dict[str, Floats] = {}
    propensities: Floats | None = None
    drawn: Ints = _NONE
    placed: Mapping[int, str] = {}
    completed: list[str] = []
    degraded: list[str] = []
    ages: dict[str, float] = {}
    timings_ms: dict[str, float] = {}
    dropped: list[Dropped] = []
    arms: dict[str, str] = {}

    @property
    def base(self) -> BaseOrder:
        """The caller's ranking of the candidates."""
        if self._base is None:
            self._base = base_order(self.request.candidates)
        return self._base

    @property
    def order(self) -> Ints:
        """Candidate indices in answer order, best first; `base.order` until a stage changes it."""
        return self.base.order if self._order is None else self._order

    @order.setter
    def order(self, order: Ints) -> None:
        self._order = order

    @property
    def scores(self) -> Floats:
        """float64[n] by candidate: the sum of `contributions` and `adjustments`, if explained."""
        return self.base.scores if self._scores is None else self._scores

    @scores.setter
    def scores(self, scores: Floats) -> None:
        self._scores = scores

    def degrade(self, code: str) -> None:
        """Add a degraded code once."""
        if code not in self.degraded:
            self.degraded.append(code)

    def settle(self, code: str | None = None) -> None:
        """Decide on the base order."""
        self.settled = True
        self.tier = Tier.BASE
        if code is not None:
            self.degrade(code)

    def reorder(self, order: Ints, part: str) -> None:
        """Reorder the candidates, and record the change of each score as an adjustment.

        Each item takes the score of its new position, so scores still fall from first to last and all parts
        of a score have the same unit.
        """
        moved, added = rescored(order, self.scores)
        self.adjustments = {**self.adjustments, part: added}
        self.scores, self.order = moved, order

    def ranking(self) -> tuple[Any, ...]:
        """Return the current ranking, for `restore`."""
        return _ranking(self)

    def restore(self, ranking: tuple[Any, ...]) -> None:
        """Restore what `ranking` returned, so that a failed stage leaves no trace."""
        for name, value in zip(_RANKING, ranking, strict=True):
            setattr(self, name, value)

    def reset(self) -> None:
        """Return to the base order."""
        self.restore((Tier.BASE, None, None, None, {}, None, []))

    def remaining_s(self) -> float:
        """Return the seconds left of the budget; negative once it is spent."""
        return self.deadline - perf_counter()
