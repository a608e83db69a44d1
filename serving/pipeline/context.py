"""Everything known of one request while it passes through the stages."""

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
    """One row of a feature group as serving uses it.

    Attributes:
        values: feature name → value.
        event_time: what the row was computed from.
        cached: whether it is a copy from an earlier request rather than the store's.
    """

    values: Mapping[str, Any]
    event_time: datetime
    cached: bool = False


class _Named:
    """The row of the attribute's own name among `rows`."""

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
    """What holds feature rows by the name that their group is ranked as; those of the tiers by attribute."""

    __slots__ = ()
    rows: dict[str, Row]
    user = _Named()
    segment = _Named()
    session = _Named()
    recent = _Named()


class Contributions(Struct, frozen=True, eq=False):
    """What each signal added to each candidate's score.

    Attributes:
        names: the k signals.
        values: float64[n, k], rows in base order; a row sums to what the blend made of the candidate.
    """

    names: tuple[str, ...]
    values: Floats


_RANKING = ("tier", "_order", "_scores", "contributions", "adjustments", "propensities", "dropped")
_ranking = attrgetter(*_RANKING)
_NONE = np.zeros(0, np.intp)


class RankContext(HasRows, Struct, eq=False):
    """State of one request. Stages read what earlier ones left and write their own part.

    The base order is made when it is first asked for: not before the online store was asked, which answers
    meanwhile.

    Attributes:
        request_id: given or generated.
        now: the moment of the request, event-time clock.
        model: item features and blend, captured once, so that no answer mixes versions.
        deadline: `perf_counter` time at which personalization ends.
        item_ids: of the candidates, as given.
        flags: those of the model, with what the experiment arms of this unit replace.
        consented: whether consent was asked for, and permits what is personal to be used and recorded.
        held_out: whether the base order is answered although everything is computed.
        gathered: item numbers of the candidates, in base order, where they are at hand already.
        rows: feature rows by the name that their group is ranked as (`FeatureGroup.ranked_as`).
        contributions: where the answer is to be explained.
        numbers: snapshot item number of each candidate, -1 where unknown; empty before the blend.
        settled: set by a stage that decided for the base order; personal stages are then skipped.
        propensities: float64[n] by candidate, where slots explore.
        drawn: candidates that exploration drew for their slots.
        placed: name of the rule that moved a candidate, by candidate.
        completed: stages that ran to their end.
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
        """What the caller's ranking says of the candidates."""
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
        """float64[n] by candidate; where explained, `contributions` and `adjustments` sum to it."""
        return self.base.scores if self._scores is None else self._scores

    @scores.setter
    def scores(self, scores: Floats) -> None:
        self._scores = scores

    def degrade(self, code: str) -> None:
        """Note a code once."""
        if code not in self.degraded:
            self.degraded.append(code)

    def settle(self, code: str | None = None) -> None:
        """Decide for the base order."""
        self.settled = True
        self.tier = Tier.BASE
        if code is not None:
            self.degrade(code)

    def reorder(self, order: Ints, part: str) -> None:
        """Put candidates into another order; what that adds to each score is kept as a part of it.

        Each place keeps its score and each item takes the score of its place, so that scores still fall from
        first to last and every part is in the same unit.
        """
        moved, added = rescored(order, self.scores)
        self.adjustments = {**self.adjustments, part: added}
        self.scores, self.order = moved, order

    def ranking(self) -> tuple[Any, ...]:
        """The ranking as it stands, for `restore`."""
        return _ranking(self)

    def restore(self, ranking: tuple[Any, ...]) -> None:
        """Back to what `ranking` returned: a stage that failed leaves nothing behind."""
        for name, value in zip(_RANKING, ranking, strict=True):
            setattr(self, name, value)

    def reset(self) -> None:
        """Back to the base order, whatever was done before."""
        self.restore((Tier.BASE, None, None, None, {}, None, []))

    def remaining_s(self) -> float:
        """Seconds left of the budget; negative once it is spent."""
        return self.deadline - perf_counter()
